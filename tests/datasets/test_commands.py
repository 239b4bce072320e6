"""`headwater dataset` and `headwater train --dataset`, as people see them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.dataset import commands
from cli.main import main
from contracts.model_repository import ModelRepository
from contracts.plan_file import plan_path, write_plan
from dataflows.datasets.building import build_rows
from dataflows.datasets.errors import DatasetError
from dataflows.definitions.repository import load_repository
from dataflows.flow.engine import default_places, run_flow
from dataflows.flow.progress import read_progress
from tests.datasets.test_datasets import OTHER_WINDOW
from tests.datasets.world import MODEL, World

PATIENCE_SECONDS = 60.0
ROOT = Path(__file__).parents[2]
QUICKLY = ("--trials", "1", "--learner", "sklearn-linear", "--channel", "none")
Said = tuple[int, str, str]
Headwater = Callable[..., Said]


@pytest.fixture
def headwater(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Headwater:
    """Runs a command on the world, and builds in this process, which has the libraries already."""
    monkeypatch.setattr(commands, "builder", lambda lock: build_rows)

    def run(*words: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--repo", str(world.folder)])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.mark.parametrize("verb", ["build", "list", "check"])
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help of a verb shows a command line to begin with."""
    with pytest.raises(SystemExit) as ended:
        main(["dataset", verb, "--help"])
    assert ended.value.code == 0
    assert f"headwater dataset {verb}" in capsys.readouterr().out.partition("Example:")[2]


def test_build_list_and_check(world: World, headwater: Headwater) -> None:
    """A data set gets a name, is listed with its commit, and comes out the same again."""
    first = world.catalogue.manifest("first")
    code, out, _ = headwater("dataset", "build", MODEL, "--to", "2013-01-02")
    assert code == 0
    facts = dict(line.split("\t") for line in out.splitlines() if "\t" in line)
    made = world.catalogue.manifest(f"{MODEL}-1")
    assert facts["digest"] == f"sha256:{made.figures.digest}"
    assert facts["log orders/0"] == f"0 to {made.log.partitions[0].end}"
    assert 0 < made.figures.rows < first.figures.rows
    assert out.endswith(f"{MODEL}: data set {MODEL}-1 is built\n")
    like = headwater("dataset", "build", MODEL, "--like", "first", "--name", "again")
    assert "the same rows as in first" in like[1]
    _, table, _ = headwater("dataset", "list")
    names = [line.split("\t")[0] for line in table.splitlines()]
    assert names == ["name", "again", "first", f"{MODEL}-1"]
    listed = json.loads(headwater("dataset", "list", "--json")[1])
    assert [one["origin"]["commit"] for one in listed] == [first.origin.commit] * 3
    code, out, err = headwater("dataset", "check", f"{MODEL}-1")
    assert (code, err) == (0, "")
    assert out.startswith(f"{MODEL}-1: the same again ({made.figures.rows} rows")


def test_a_check_that_fails(world: World, headwater: Headwater) -> None:
    """Exit 1: days and columns in a table, or files that were changed and how to mend them."""
    path = world.log / "outcomes" / "0.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    shutil.copy(path, world.folder.parent / "before")
    wanted = b'0.0, "event_timestamp": "2013-01-01T23:5'
    place = next(n for n, line in enumerate(lines) if wanted in line)
    lines[place] = lines[place].replace(b'"days": 0.0', b'"days": 9.0')
    path.write_bytes(b"".join(lines))
    code, out, err = headwater("dataset", "check", "first")
    assert code == 1
    header, *found = (line.split("\t") for line in out.splitlines())
    assert header[:4] == ["table", "day", "rows then", "rows now"]
    assert ["outcomes", "2013-01-01"] in [line[:2] for line in found]
    assert "label (1)" in next(line[4] for line in found if line[0] == "outcomes")
    assert err.startswith("headwater: data set 'first' comes out otherwise now: ")
    assert "the first is 2013-01-01; records in its range were changed" in err
    assert err.count("\n") == 1
    shutil.copy(world.folder.parent / "before", path)
    next(iter((world.catalogue.folder("first") / "examples").iterdir())).write_bytes(b"PAR1")
    code, _, err = headwater("dataset", "check", "first")
    assert code == 1
    assert "are not as they were written: examples/2013-01-0" in err
    assert f"build {MODEL} --like first --name NEW" in err
    assert headwater("train", MODEL, "--dataset", "first", *QUICKLY)[0] == 1


def test_manifests_that_cannot_be_read(world: World, headwater: Headwater) -> None:
    """One that is damaged is told, and hides no other; one that is missing is no data set."""
    folder = world.catalogue.folder("broken")
    folder.mkdir()
    (folder / "manifest.json").write_text("{")
    code, out, err = headwater("dataset", "list")
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["name", "first"]
    assert "manifest.json cannot be read" in err
    code, _, err = headwater("dataset", "check", "nothing")
    assert code == 1
    assert "there is no data set 'nothing'" in err
    code, _, err = headwater("dataset", "build", "other", "--like", "first")
    assert code == 1
    assert "is of model 'late_order', not of 'other'" in err


def test_train_records_its_data_set(world: World, headwater: Headwater) -> None:
    """Of a data set and of the dataflow's same examples comes the same model; each says of what."""
    repository = load_repository(world.folder)
    places = default_places(repository, world.settings)
    run_flow(repository, world.settings, places, until_end=True)
    write_plan(plan_path(world.folder), repository.plan, {})
    assert headwater("train", MODEL, *QUICKLY)[0] == 0
    assert headwater("train", MODEL, "--dataset", "first", *QUICKLY)[0] == 0
    models = ModelRepository(places.models)
    (plain, onnx), (of_set, other) = (models.load(MODEL, version) for version in ("b1", "b2"))
    assert onnx == other
    assert plain.lineage["examples_digest"] == of_set.lineage["examples_digest"]
    assert plain.lineage["dataset"] == "none"
    assert of_set.lineage["dataset"] == "first"
    first = world.catalogue.manifest("first")
    assert of_set.lineage["dataset_digest"] == f"sha256:{first.figures.digest}"
    assert of_set.lineage["dataset_commit"] == first.origin.commit
    assert of_set.offsets == {one.name: one.end for one in first.log.partitions}
    (said,) = read_progress(places.state)
    assert plain.offsets == {name: at.offset for name, at in sorted(said.partitions.items())}
    assert plain.offsets == of_set.offsets
    card = headwater("models", "card", MODEL, "b2")[1]
    assert "| dataset | `first` |" in card
    world.commit(OTHER_WINDOW.replace("days > 3", "days > 4"))
    write_plan(plan_path(world.folder), load_repository(world.folder).plan, {})
    code, _, err = headwater("train", MODEL, "--dataset", "first", *QUICKLY)
    assert code == 1
    assert "where the label of model 'late_order' was binary: outcomes: days > 3" in err


def test_a_process_of_its_own(world: World) -> None:
    """The command builds in a child, which ends with it, by whatever signal; then all is well."""
    world.commit(OTHER_WINDOW)
    work = world.catalogue.root / ".second.work" / "work"
    clean = {name: text for name, text in os.environ.items() if not name.startswith("HEADWATER_")}
    command = [sys.executable, "-m", "cli.main", "dataset", "build", MODEL, "--name", "second"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=world.folder,
            env={**clean, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with start() as killed:
        _wait_for((work / "stderr.txt").exists)
        killed.send_signal(signal.SIGKILL)
    assert world.catalogue.names() == ["first"]
    # The child holds the place until it has gone, too.
    _wait_for(lambda: _is_free(world, "second"))
    with start() as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    assert out.endswith("late_order: data set second is built\n")
    assert world.check("second").differences == ()


def _is_free(world: World, name: str) -> bool:
    try:
        with world.catalogue.workplace(name):
            return True
    except DatasetError:
        return False


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)
