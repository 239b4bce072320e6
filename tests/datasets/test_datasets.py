"""Data sets come out again, whatever happens to the log's end, to definitions and to processes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import duckdb
import pytest

from dataflows.datasets.errors import DatasetError
from dataflows.datasets.manifest import Bounds
from dataflows.definitions.repository import load_repository
from dataflows.erasure.job import Asked, forget
from dataflows.erasure.wanted import Wanted
from dataflows.flow.engine import default_places, run_flow
from dataflows.training.examples import Period, read_examples
from tests.datasets.conftest import KNOWN
from tests.datasets.world import AT, MIDNIGHT_US, MODEL, World
from tests.flow import shop

PATIENCE_SECONDS = 60.0
OTHER_WINDOW = shop.DEFINITIONS.replace('over("count", 20, 5,', 'over("count", 40, 5,')
MORE_MODELS = shop.DEFINITIONS + (
    "\nother = Model(name='other', features='late_order', request=['amount'],"
    " spine=source(ORDERS, 'spine'), spine_key='order_id', label=late_order.label,"
    " publish_every=timedelta(minutes=30), learner=lambda: linear_model.LogisticRegression())\n"
)


def rows(folder: Path, table: str, where: str = "true") -> list[tuple[object, ...]]:
    """Rows of a table, read by DuckDB."""
    path = folder / table / "*.parquet"
    query = f"SELECT * FROM read_parquet('{path}') WHERE {where} ORDER BY ALL"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(query).fetchall()


def test_a_manifest_says_it_all(built: World) -> None:
    """Commit, range of the log, model, rows and versions stand in the manifest."""
    manifest = built.catalogue.manifest("first")
    folder = built.catalogue.folder("first")
    assert (manifest.name, manifest.model) == ("first", MODEL)
    assert manifest.origin.commit == built.git("rev-parse", "HEAD")
    assert manifest.origin.folder == "features"
    assert manifest.origin.label == "binary: outcomes: days > 3"
    ends = {one.name: (one.first, one.end) for one in manifest.log.partitions}
    files = {p: (built.log / f"{p}.ndjson").stat().st_size for p in ends}
    assert ends == {name: (0, size) for name, size in files.items()}
    examples, outcomes = rows(folder, "examples"), rows(folder, "outcomes")
    figures = manifest.figures
    assert (figures.rows, figures.labelled) == (len(examples), len(outcomes))
    assert figures.rows > 600
    times = [row[1].timestamp() for row in examples]  # type: ignore[attr-defined]
    assert figures.first_us == round(min(times) * 1e6)
    assert figures.last_us == round(max(times) * 1e6)
    assert [(day.table, day.day) for day in figures.days] == [
        (table, day) for table in ("examples", "outcomes") for day in ("2013-01-01", "2013-01-02")
    ]
    assert manifest.created == AT.isoformat()
    assert {"headwater", "river", "feast", "numpy"} <= manifest.versions.keys()


def test_nothing_else_is_written(built: World) -> None:
    """A build leaves log, stores, state and models as they are: no dead letters, no versions."""
    found = {str(p.relative_to(built.folder)) for p in (built.folder / "data").glob("*")}
    assert found == {"data/log", "data/datasets"}
    assert {p.name for p in built.log.iterdir()} == {"orders", "outcomes", "visits"}
    assert {p.name for p in built.catalogue.root.iterdir()} == {"first", ".first.lock"}
    assert not built.git("status", "--porcelain", "--", ".", ":(exclude)data")


def test_it_is_what_the_dataflow_wrote(world: World, records: list[shop.Record]) -> None:
    """Rows equal the live run's of the same keys, and a model would learn the same of both."""
    repository = load_repository(world.folder)
    live = default_places(repository, world.settings)
    run_flow(repository, world.settings, live, until_end=True)
    mine, theirs = world.catalogue.folder("first"), live.examples / MODEL
    for table in ("examples", "outcomes"):
        assert rows(mine, table) == rows(theirs, table)
    plan = repository.plan.model(MODEL)
    one, other = (read_examples(plan, folder, Period(), ("shop",)) for folder in (mine, theirs))
    assert one.digest == other.digest
    later = [r for r in records if r.at_us >= shop.BEGIN_US + KNOWN * 14 * shop.SECOND_US]
    shop.write_log(world.log, later)
    run_flow(repository, world.settings, live, until_end=True)
    grown = rows(theirs, "examples")
    assert len(grown) > len(rows(mine, "examples"))
    assert set(rows(mine, "examples")) <= set(grown)


def test_more_log_and_other_definitions_change_nothing(
    world: World, records: list[shop.Record]
) -> None:
    """Records behind the range, and later commits, leave a data set as it is."""
    first = world.catalogue.manifest("first")
    shop.write_log(world.log, records[-300:])
    changed = world.commit(OTHER_WINDOW)
    (world.log / "visits" / "1.ndjson").write_bytes(b'{"user": "u1"}\n')
    checked = world.check("first")
    assert (checked.differences, checked.damaged, checked.notes) == ((), (), ())
    second = world.build("second")
    assert second.origin.commit == changed
    assert second.origin.definitions != first.origin.definitions
    assert second.figures.rows > first.figures.rows
    assert world.check("second").differences == ()
    again = world.build_like("again", first)
    assert (again.origin, again.log, again.figures) == (first.origin, first.log, first.figures)
    assert world.catalogue.twins(again) == ["first"]


def test_another_model_is_no_matter(world: World) -> None:
    """Definitions count as far as the model reads them: another model changes no digest."""
    first = world.catalogue.manifest("first")
    world.commit(MORE_MODELS)
    second = world.build("second")
    assert second.origin.definitions == first.origin.definitions
    assert second.figures == first.figures
    with pytest.raises(DatasetError, match=r"no model 'nobody'.* late_order, other"):
        world.build("third", model="nobody")


def test_bounds_are_of_predictions(world: World) -> None:
    """Predictions from a moment on and before another; their labels come along, however late."""
    first = world.catalogue.folder("first")
    hour = 3600 * shop.SECOND_US
    stamps = [row[1] for row in rows(first, "examples")]
    times_us = sorted(round(stamp.timestamp() * 1e6) for stamp in stamps)  # type: ignore[attr-defined]
    # Each the time of a row: the first is in, the second is not.
    begin = next(at_us for at_us in times_us if at_us > MIDNIGHT_US - hour)
    end = next(at_us for at_us in times_us if at_us > MIDNIGHT_US + hour // 4)
    third = world.build("third", Bounds(begin, end))
    folder = world.catalogue.folder("third")
    within = f"epoch_us(event_timestamp) >= {begin} AND epoch_us(event_timestamp) < {end}"
    for table in ("examples", "outcomes"):
        found = rows(folder, table)
        assert found == rows(first, table, within)
        assert 100 < len(found) < len(rows(first, table))
    assert begin <= (third.figures.first_us or 0) < (third.figures.last_us or 0) < end
    assert max(row[2].timestamp() for row in rows(folder, "outcomes")) * 1e6 > end  # type: ignore[attr-defined]
    assert world.check("third").differences == ()


def test_a_changed_record_is_found(world: World) -> None:
    """A record that was changed in the log shows: its day, and in which columns rows differ."""
    path = world.log / "orders" / "0.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    place, line = next(
        (number, line)
        for number, line in enumerate(lines)
        if b'"amount": 2' in line and b"2013-01-02T00:1" in line
    )
    amount = json.loads(line)["amount"]
    lines[place] = line.replace(f'"amount": {amount}'.encode(), f'"amount": {amount - 1}'.encode())
    path.write_bytes(b"".join(lines))
    checked = world.check("first")
    assert checked.damaged == ()
    assert {one.day for one in checked.differences} == {"2013-01-02"}
    (examples,) = (one for one in checked.differences if one.table == "examples")
    assert examples.rows_then == examples.rows_now
    assert examples.columns["amount"] == 1
    assert examples.columns["user_orders__spent"] > 1
    assert "order_id" not in examples.columns


def test_lost_records_are_found(world: World) -> None:
    """A log that was cut, or lost a partition, is no reason to compare: the error says which."""
    path = world.log / "visits" / "0.ndjson"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"visits/0 ends at offset \d+, the data set at \d+"):
        world.check("first")
    (world.log / "orders" / "1.ndjson").unlink()
    with pytest.raises(DatasetError, match="no partition orders/1 any more"):
        world.check("first")


def test_files_that_were_changed(world: World) -> None:
    """Stored files that are not as written are named; the log still gives the data set."""
    folder = world.catalogue.folder("first")
    days = sorted((folder / "examples").iterdir())
    data = days[0].read_bytes()
    days[0].write_bytes(data[: len(data) // 2] + b"xxxx" + data[len(data) // 2 + 4 :])
    (folder / "outcomes" / "2013-01-02.parquet").unlink()
    days[1].rename(folder / "examples" / "2013-01-03.parquet")
    checked = world.check("first")
    assert checked.differences == ()
    assert checked.damaged == (
        "examples/2013-01-01", "examples/2013-01-02", "examples/2013-01-03", "outcomes/2013-01-02"
    )  # fmt: skip


def test_a_name_is_taken_once(world: World) -> None:
    """A data set is never replaced; two builds of one name do not go side by side."""
    with pytest.raises(DatasetError, match=r"'first' already.* never change"):
        world.build("first")
    with (
        world.catalogue.workplace("second"),
        pytest.raises(DatasetError, match="built or checked by another process"),
    ):
        world.build("second")
    with pytest.raises(DatasetError, match="no name for a data set"):
        world.build("../second")
    assert world.catalogue.free_name(MODEL) == f"{MODEL}-1"


def test_changes_are_refused(world: World) -> None:
    """Definitions that are in no commit are refused, or taken with their digest."""
    path = world.folder / "definitions.py"
    path.write_text(OTHER_WINDOW)
    with pytest.raises(DatasetError, match=r"in no commit \(definitions.py\).*--allow-dirty"):
        world.build("dirty")
    dirty = world.build("dirty", takes_changes=1)
    assert dirty.origin.has_changes
    assert world.check("dirty").differences == ()
    path.write_text(shop.DEFINITIONS)
    with pytest.raises(DatasetError, match=r"in no commit, and those of .* are others now"):
        world.check("dirty")
    (world.folder / "more.py").write_text("")
    with pytest.raises(DatasetError, match=r"in no commit \(more.py\)"):
        world.build("second")


def test_what_git_ignores_is_missed(world: World) -> None:
    """Definitions that need a file that Git ignores are refused, or taken as they are."""
    (world.folder / ".gitignore").write_text("secret.py\n")
    (world.folder / "secret.py").write_text("DAYS = 3\n")
    world.git("add", ".gitignore")
    world.commit("from secret import DAYS\n" + shop.DEFINITIONS)
    with pytest.raises(DatasetError, match="cannot be loaded from what is in the commit alone"):
        world.build("second")
    assert world.build("second", takes_changes=1).origin.has_changes


def test_a_folder_that_git_ignores(world: World) -> None:
    """A folder that Git ignores as a whole (the demo's in `build`) is taken with --allow-dirty."""
    world.git("rm", "-r", "--quiet", "--cached", ".")
    (world.folder.parent / ".gitignore").write_text(f"/{world.folder.name}/\n")
    world.git("add", "../.gitignore")
    world.git("commit", "--quiet", "--message", "ignored")
    with pytest.raises(DatasetError, match=r"in no commit \(feature_store.yaml\)"):
        world.build("second")
    second = world.build("second", takes_changes=1)
    assert second.origin.has_changes
    assert world.check("second").differences == ()


def test_without_git_or_commit(world: World, tmp_path: Path) -> None:
    """A folder in no Git repository is refused, and a commit that is gone is named."""
    (world.folder.parent / ".git").rename(tmp_path / "away")
    with pytest.raises(DatasetError, match="is in no commit of a Git repository"):
        world.build("second")
    world.git("init", "--quiet", str(world.folder.parent))
    world.commit(OTHER_WINDOW)
    with pytest.raises(DatasetError, match=r"commit [0-9a-f]{12} is not in the Git repository"):
        world.check("first")


def test_who_was_forgotten_stays_away(world: World) -> None:
    """An erasure names the data sets that were built before it; builds and checks honour it."""
    repository = load_repository(world.folder)
    run_flow(repository, world.settings, default_places(repository, world.settings), until_end=True)
    asked = Asked([Wanted(("user",), ("string",), (("u1",),))], "2026-01-01T00:00:00Z", "ann")
    report = forget(repository, world.settings, asked, lambda what, done, total: None)
    assert [r.what for r in report.remains if r.where == "datasets" and "so first may" in r.what]
    checked = world.check("first")
    assert checked.differences
    assert any("were forgotten since it was built" in note for note in checked.notes)
    second = world.build("second")
    assert second.forgotten == 1
    assert second.figures.rows < world.catalogue.manifest("first").figures.rows
    assert world.check("second").differences == ()


def test_a_killed_build_is_built_anew(world: World) -> None:
    """SIGKILL in the middle leaves no data set; the next build of the name gives the same rows."""
    root = world.catalogue.root
    progress = root / ".second.work" / "work" / "state" / "progress"
    pid = os.fork()
    if pid == 0:
        try:
            world.build("second")
        finally:
            os._exit(1)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _events(progress):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert (root / ".second.work").exists()
    assert world.catalogue.names() == ["first"]
    second = world.build("second")
    assert second.figures == world.catalogue.manifest("first").figures
    assert not (root / ".second.work").exists()


def _events(progress: Path) -> int:
    try:
        return sum(json.loads(path.read_text())["events"] for path in progress.glob("*.json"))
    except (FileNotFoundError, ValueError):
        return 0
