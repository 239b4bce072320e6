"""The command line of `headwater forget`, and what it does to processes that run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from contracts.settings import EvaluatorSettings
from dataflows.definitions.repository import Repository, load_repository
from dataflows.erasure.served import count_served, remove_served
from dataflows.flow.engine import default_places, run_flow
from dataflows.served.model import ServedLabels, ServedModel
from dataflows.served.rows import Record, _Row
from dataflows.served.state import (
    EvaluatorError,
    EvaluatorState,
    evaluator_folder,
    read_state,
    sole_evaluator,
    write_state,
)
from tests.flow import shop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, records: list[shop.Record]) -> Path:
    """A repository whose dataflow was run to the end of its log."""
    made = shop.make_repository(tmp_path_factory.mktemp("command") / "repository")
    shop.write_log(made / "data" / "log", records[:500])
    repository = load_repository(made)
    settings = EvaluatorSettings.for_repo(made, shards=3, idle_timeout_seconds=0.2)
    run_flow(repository, settings, default_places(repository, settings), until_end=True)
    return made


def _run(folder: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["forget", *words, "--repo", str(folder)])
    return int(ended.value.code or 0)


def test_the_report_says_what_was_removed_and_what_stays(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As lines for people, and as JSON; a key may stand behind its name, composite keys must."""
    assert _run(folder, "user", "u1", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "store\tof\twould go\n" in shown
    assert "online\tuser_orders\t1\n" in shown
    assert "`headwater run` again" not in shown
    assert _run(folder, "shop,user", "user=u1", "shop=2", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["join_keys"], report["entities"]) == (["shop", "user"], 1)
    assert report["tombstones"] == [1]
    online = [one for one in report["removed"] if one["where"] == "online"]
    assert online == [{"where": "online", "name": "user_shop", "rows": 1}]
    assert {one["where"] for one in report["remains"]} >= {"state", "log", "models"}
    assert _run(folder, "user", "user=u1", "u2") == 0
    shown = capsys.readouterr().out
    assert "online\tuser_orders\t2\n" in shown
    assert "tombstone 2, 3 is left; start `headwater run` again" in shown
    assert _run(folder, "user", "u1") == 0
    assert "nothing is stored of this user\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["user"], 2, "KEY"),
        (["person", "u1"], 1, "no view has an entity 'person'; there are shop, user"),
        (["shop", "u1"], 1, "key 1 is not of the type that views have: shop (int64)"),
        (["shop", "shop=1", "shop:=1.5"], 1, "key 2 is not of the type"),
        (["user,shop", "user=u1"], 2, "give each of shop, user as name=value, once"),
        (["user,shop", "u1", "2"], 2, "'u1' is not key=value"),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    """Exit 2 for a command line that is wrong in itself, 1 for what is not in the repository."""
    assert _run(folder, *words) == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def _served(repository: Repository) -> tuple[EvaluatorState, dict[str, set[str]]]:
    """An evaluator's state in which two rows and two labels wait, and whose are to go."""
    plan = repository.plan.model("late_order")
    model = ServedModel(plan)
    rows = [_Row({"user": "u1", "shop": 1}, 0.5, key=key) for key in ("o1", "o2")]
    record = Record("r", plan.name, "1", plan.schema.fingerprint, 5, rows)
    model.add([record], ServedLabels(["o8", "o9"], [6, 6], [1.0, 1.0]), 5)
    return EvaluatorState(models={plan.name: model.dump()}), {plan.name: {"o1", "o9", "o5"}}


def test_rows_that_wait_in_the_evaluator_go(repository: Repository, tmp_path: Path) -> None:
    """A stopped evaluator goes on without them; a running one's state is nobody else's."""
    folder = evaluator_folder(tmp_path / "state")
    state, keys = _served(repository)
    assert remove_served(folder, keys) == count_served(folder, keys) == {}
    with sole_evaluator(folder):
        write_state(folder, state)
        with pytest.raises(EvaluatorError, match="another evaluator is running"):
            remove_served(folder, keys)
    assert count_served(folder, keys) == {"late_order": 2}
    assert remove_served(folder, keys) == {"late_order": 2}
    left = read_state(folder)
    assert left is not None
    model = ServedModel(repository.plan.model("late_order"))
    model.load(left.models["late_order"])
    assert model.waiting == 1
    model.add([], ServedLabels(["o2"], [7], [1.0]), 7)
    assert model.waiting == 0
    assert remove_served(folder, keys) == {}
