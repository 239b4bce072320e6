"""`headwater verify` as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from dataflows.definitions.repository import Repository
from tests.flow import shop
from tests.verify.test_served_rows import requests
from tests.verify.world import MODEL, SECOND_US, Oracle, World


@pytest.fixture
def called(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Called:
    """Runs the command on the shop."""
    monkeypatch.setenv("HEADWATER_LOG_URL", world.settings.log_url)
    monkeypatch.setenv("HEADWATER_STATE_DIR", str(world.settings.state_dir))
    return Called(world.repository, capsys)


class Called:
    """What the command says, and how it ends."""

    def __init__(self, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder: Path = repository.directory
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        with pytest.raises(SystemExit) as ended:
            main(["verify", "--repo", str(self._folder), *arguments])
        said = self._capsys.readouterr()
        return int(str(ended.value.code)), said.out, said.err


def test_it_passes_and_says_so(called: Called, world: World, oracle: Oracle) -> None:
    """Exit 0, a line for each feature, and a verdict in words."""
    world.serve(requests(oracle, 20))
    code, out, err = called()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == ("late_order: 20 rows served, 20 compared: 20 equal, 0 stale, 0 different")
    spent = next(line for line in lines if line.startswith("user_orders:spent\t"))
    assert spent.split("\t") == ["user_orders:spent", "20", "20", "0", "0", "–", "–", "–"]
    assert lines[-1].startswith("as it should be: of the worst feature 0.0000% is different")


def test_it_fails_above_the_bound(called: Called, world: World, oracle: Oracle) -> None:
    """Exit 1 with what is different and whose it is; 0 if the bound allows as much."""
    served = requests(oracle, 20)
    wrong = served[3].with_value(world.place("user_orders:spent"), -5.5)
    served[3] = wrong
    world.serve(served)
    code, out, err = called("--examples", "1")
    assert (code, err) == (1, "")
    example = next(line for line in out.splitlines() if line.startswith("  "))
    assert "user_orders:spent was -5.5, is " in example
    assert f"request r3, version 1; user={wrong.inputs['user']}" in example
    assert "NOT as it should be: of the worst feature 5.0000% is different" in out
    assert called("--max-different", "0.05")[0] == 0
    assert called("--max-different", "0.0499")[0] == 1


def test_json_is_the_whole_report(called: Called, world: World, oracle: Oracle) -> None:
    """With ``--json`` nothing but the report is said; exit codes are the same."""
    place = world.place("user_orders:spent")
    stale = [one.with_value(place, 0.0) for one in requests(oracle, 12) if one.vector[place]]
    world.serve(stale)
    code, out, err = called("--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report == json.loads(json.dumps(world.verify().to_json()))
    found = report["models"][MODEL]["features"]["user_orders:spent"]
    assert (found["compared"], found["stale"]) == (len(stale), len(stale))
    assert found["stale_seconds_max"] >= found["stale_seconds_p50"] > 0
    code, out, _ = called("--json", "--max-lag", "1")
    assert code == 1
    found = json.loads(out)["models"][MODEL]["features"]["user_orders:spent"]
    assert found["different"] == len(stale)


def test_options_choose_what_is_verified(called: Called, world: World, oracle: Oracle) -> None:
    """``--from``, ``--to``, ``--sample`` and ``--model`` do what they say."""
    served = requests(oracle, 40)
    world.serve(served)
    begin = "2013-01-01T22:20:00"
    begin_us = shop.BEGIN_US + 1_200 * SECOND_US
    before = sum(one.at_us < begin_us for one in served)
    assert f"{before} rows served" in called("--to", f"{begin}Z")[1]
    assert f"{40 - before} rows served" in called("--from", begin)[1]
    assert "40 rows served, 7 compared" in called("--sample", "7", "--model", MODEL)[1]
    code, _, err = called("--model", "late")
    assert (code, err.strip()) == (
        1, "headwater: definitions.py has no model 'late'; it has late_order",
    )  # fmt: skip
    code, _, err = called("--from", "yesterday")
    assert code == 2
    assert "'yesterday' is no time" in err


def test_nothing_to_compare_fails(called: Called) -> None:
    """Without anything served there is no verdict, and that is not success."""
    code, out, err = called()
    assert (code, out) == (1, "")
    assert err.startswith("headwater: nothing was compared")
