"""The whole flow on a log of thousands: right, and the same however it is run."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from contracts.evaluation_file import evaluation_file, read_evaluation
from contracts.log import LogError
from contracts.plan import Aggregate, View
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import run_flow
from dataflows.flow.errors import EngineError
from dataflows.sources.bad_share import TooManyBadRecordsError
from dataflows.windows.view_state import Pending, ViewState
from tests.flow import shop
from tests.flow.conftest import Run
from tests.flow.log_oracle import ViewOracle, known_records

ROOT = Path(__file__).parents[2]
VIEWS = ("user_orders", "user_shop", "shop_orders", "user_visits")
VARIANTS: dict[str, dict[str, Any]] = {
    "small batches": {"batch_bytes": 700},
    "an epoch after every batch": {"batch_bytes": 9_000, "epoch_seconds": 0.0},
    "near one another": {"batch_bytes": 2_000, "alignment_seconds": 60.0},
    "three workers": {"batch_bytes": 20_000, "workers": 3},
    "sixteen shards": {"batch_bytes": 50_000, "shards": 16},
}


@pytest.mark.parametrize("name", VIEWS)
def test_stores_equal_brute_force(
    repository: Repository,
    records: list[shop.Record],
    first_run: tuple[Path, Path],
    name: str,
) -> None:
    """Every offline row and every online value is what the oracle computes from the log."""
    known = known_records(repository.plan, records)
    end_us = max(record.fields["event_us"] for record in known) + 1
    oracle = ViewOracle(repository.plan.view(name), known)
    wanted = oracle.rows(end_us)
    assert len(wanted) > 500
    found = shop.offline_rows(repository, first_run[1], name)
    assert sorted(found, key=repr) == sorted(wanted, key=repr)
    online = shop.online_rows(repository, first_run[1], name)
    assert sorted(online, key=repr) == sorted(oracle.last_rows(end_us), key=repr)


def test_examples_equal_brute_force(
    repository: Repository, records: list[shop.Record], first_run: tuple[Path, Path]
) -> None:
    """The vector of each order is what was known strictly before it, missing views as nulls."""
    known = known_records(repository.plan, records)
    model = repository.plan.model("late_order")
    oracles = {name: ViewOracle(repository.plan.view(name), known) for name in VIEWS}
    wanted = {}
    for record in known:
        if record.topic == "orders":
            vector = []
            reads = {name: oracle.read(record) for name, oracle in oracles.items()}
            for field in model.schema.fields:
                if field.kind == "request":
                    vector.append(record.fields[field.name])
                    continue
                features = [a.feature for a in repository.plan.view(field.view).aggregates]
                vector.append(reads[field.view][features.index(field.feature)])
            wanted[record.fields["order_id"]] = (record.effective_us, vector)
    assert len(wanted) > 700
    assert shop.example_rows(first_run[1]) == wanted


def test_dead_letters_have_origin_and_reason(
    records: list[shop.Record], first_run: tuple[Path, Path]
) -> None:
    """Each bad record is in its topic's dead letters once, with where it stood and why."""
    log, _ = first_run
    letters = list(shop.dead_letters(log))
    assert len(letters) == sum(record.fields is None for record in records) > 10
    for letter in letters:
        content = (log / letter["topic"] / f"{letter['partition']}.ndjson").read_bytes()
        line = content[letter["offset"] :].split(b"\n")[0]
        assert line in shop.BAD
        if "record" in letter:
            assert letter["record"].encode() == line
        assert letter["reason"]
    origins = {(one["topic"], one["partition"], one["offset"]) for one in letters}
    assert len(origins) == len(letters)


@pytest.mark.parametrize("variant", VARIANTS)
def test_how_it_is_run_changes_nothing(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, run: Run, variant: str
) -> None:
    """Batches, epochs, alignment, workers and shards leave stores and models as they are."""
    run(new_log, tmp_path / "out", **VARIANTS[variant])
    assert shop.digests(tmp_path / "out") == shop.digests(first_run[1])
    key = json.dumps
    assert sorted(map(key, shop.dead_letters(new_log))) == sorted(
        map(key, shop.dead_letters(first_run[0]))
    )


def test_a_second_run_does_nothing(copied_run: tuple[Path, Path], run: Run) -> None:
    """Running to the end of a log that is done changes no store, model or dead letter."""
    log, out = copied_run
    before, letters = shop.digests(out), list(shop.dead_letters(log))
    summary = run(log, out)
    assert summary.tally.events == 0
    assert (shop.digests(out), list(shop.dead_letters(log))) == (before, letters)


def _all_figures(out: Path) -> Any:
    """The evaluation of all versions together."""
    report = read_evaluation(evaluation_file(out / "models", "late_order", "pipeline"))
    assert report
    return {name: report[name] for name in ("all", "recent", "outcomes", "until_us")}


def test_two_halves_make_a_whole(
    first_run: tuple[Path, Path], records: list[shop.Record], tmp_path: Path, run: Run
) -> None:
    """Running over a part of the log and later over the rest equals one run over all of it."""
    cut_us = shop.BEGIN_US + 5_000_000_000
    early = [record for record in records if record.at_us < cut_us]
    newest_us = max(r.fields["event_us"] for r in early if r.fields)
    late = [record for record in records if record.at_us >= cut_us]
    # What comes after the first run must not have happened before its end: that would be late.
    late = [r for r in late if r.fields is None or r.fields["event_us"] > newest_us]
    log, whole = tmp_path / "log", tmp_path / "whole"
    shop.write_log(log, early)
    run(log, tmp_path / "out")
    shop.write_log(log, late)
    run(log, tmp_path / "out")
    run(shop.write_log(whole / "log", early + late), whole / "out")
    halves, once = shop.digests(tmp_path / "out"), shop.digests(whole / "out")
    # The end of the first run is one more moment at which a version is published.
    assert halves.pop("models") != once.pop("models")
    assert halves.pop("evaluation") != once.pop("evaluation")
    assert halves == once
    assert _all_figures(tmp_path / "out") == _all_figures(whole / "out")


def test_a_model_predicts_before_it_learns(first_run: tuple[Path, Path]) -> None:
    """The first prediction is that of a model that has learned nothing."""
    out = first_run[1]
    path = out / "examples" / "late_order" / "examples" / "*.parquet"
    query = f"SELECT score FROM read_parquet('{path}') ORDER BY event_timestamp"
    with closing(duckdb.connect()) as connection:
        scores = [row[0] for row in connection.execute(query).fetchall()]
    assert scores[0] == 0.5
    assert any(abs(score - 0.5) > 0.01 for score in scores)
    assert not any(math.isnan(score) for score in scores)


def test_too_many_bad_records_stop_the_flow(
    records: list[shop.Record], tmp_path: Path, run: Run
) -> None:
    """A log that is mostly bad stops with an error that says what to do."""
    log = shop.write_log(tmp_path / "log", records)
    with (log / "visits" / "0.ndjson").open("ab") as file:
        file.write(b"rubbish\n" * 5000)
    with pytest.raises(TooManyBadRecordsError, match=r"visits.*BAD_RECORD_SHARE_MAX"):
        run(log, tmp_path / "out", batch_bytes=20_000)


def test_state_of_other_definitions_is_refused(
    copied_run: tuple[Path, Path], tmp_path: Path
) -> None:
    """Old state and changed definitions do not go together; the error names what changed."""
    log, out = copied_run
    changed = shop.DEFINITIONS.replace('over("max", 10, 10', 'over("max", 20, 10')
    repository = load_repository(shop.make_repository(tmp_path / "repository", changed))
    settings = shop.settings(repository.directory, log, out)
    with pytest.raises(EngineError, match=r"^definitions changed .*headwater replay"):
        run_flow(repository, settings, shop.places(out), until_end=True)


def test_other_shards_are_refused(copied_run: tuple[Path, Path], run: Run) -> None:
    """The number of shards is fixed with the state; changing it is refused by name."""
    log, out = copied_run
    with pytest.raises(EngineError, match=r"^HEADWATER_SHARDS changed"):
        run(log, out, shards=4)


def test_a_lost_online_store_is_noticed(copied_run: tuple[Path, Path], run: Run) -> None:
    """State without the online store that it filled would leave old values out for ever."""
    log, out = copied_run
    for path in out.glob("online.db*"):
        path.unlink()
    with pytest.raises(EngineError, match=r"online\.db is gone.*`headwater replay`"):
        run(log, out)
    assert not (out / "online.db").exists()


@pytest.mark.parametrize("garbage", ["", "{", "[]", "3", "\x00"])
def test_a_damaged_identity_is_refused(
    copied_run: tuple[Path, Path], run: Run, garbage: str
) -> None:
    """State that does not say what it was made with is refused, naming the file."""
    log, out = copied_run
    (out / "state" / "identity.json").write_text(garbage)
    with pytest.raises(EngineError, match=r"identity\.json is damaged.*`headwater replay`"):
        run(log, out)


@pytest.mark.parametrize("written", [None, 2, 4, "3"])
def test_state_of_another_version_is_refused(
    copied_run: tuple[Path, Path], run: Run, written: object
) -> None:
    """State in another layout is refused in words, not by an error in the midst of reading it."""
    log, out = copied_run
    path = out / "state" / "identity.json"
    content = json.loads(path.read_text())
    content["format"] = written
    if written is None:
        del content["format"]
    path.write_text(json.dumps(content))
    with pytest.raises(EngineError, match=r"another version of Headwater.*`headwater replay`"):
        run(log, out)


def test_another_learner_is_refused(copied_run: tuple[Path, Path], tmp_path: Path) -> None:
    """What the old learner learned does not become the new one's."""
    log, out = copied_run
    changed = shop.DEFINITIONS.replace("optim.SGD(0.01)", "optim.SGD(0.02)")
    repository = load_repository(shop.make_repository(tmp_path / "repository", changed))
    settings = shop.settings(repository.directory, log, out)
    with pytest.raises(EngineError, match=r"^definitions changed"):
        run_flow(repository, settings, shop.places(out), until_end=True)


def test_a_repository_may_move(copied_run: tuple[Path, Path], tmp_path: Path) -> None:
    """The same definitions in another folder go on with the state."""
    log, out = copied_run
    moved = load_repository(shop.make_repository(tmp_path / "elsewhere" / "moved"))
    settings = shop.settings(moved.directory, log, out)
    summary = run_flow(moved, settings, shop.places(out), until_end=True)
    assert summary.tally.events == 0


@pytest.mark.parametrize("name", ["00.ndjson", "01.ndjson", "a.ndjson", "-1.ndjson"])
def test_an_oddly_named_partition_is_refused(
    new_log: Path, tmp_path: Path, run: Run, name: str
) -> None:
    """A file that may be a partition, but is not named as one, is not left out in silence."""
    shutil.copy(new_log / "orders" / "0.ndjson", new_log / "orders" / name)
    with pytest.raises(LogError, match=rf"orders/{name}: partitions are named 0\.ndjson"):
        run(new_log, tmp_path / "out")


@pytest.mark.parametrize(
    ("function", "column", "feature"),
    [
        ("mean", "amount", "spent"),
        ("avg", "shop", "spent"),
        ("mean", "shop", "spent"),
        *((function, "amount", "spent") for function in ("sum", "min", "max", "last")),
    ],
)
def test_an_int64_feature_that_need_not_be_whole(
    tmp_path: Path, function: str, column: str, feature: str
) -> None:
    """A feature that would be rounded when served is refused, with the type to declare."""
    with pytest.raises(DefinitionError, match=r"user_orders.*is declared as Int64; use Float64"):
        _load_with_int64(tmp_path, function, column, feature)


@pytest.mark.parametrize(
    ("function", "column"),
    [("count", "amount"), ("count", "shop"), ("last", "shop"), ("sum", "shop"), ("max", "shop")],
)
def test_an_int64_feature_that_is_whole(tmp_path: Path, function: str, column: str) -> None:
    """Counts of anything, and sums, extremes and last values of bigints, may be Int64."""
    plan = _load_with_int64(tmp_path, function, column, "spent").plan
    aggregates = {a.feature: a for a in plan.view("user_orders").aggregates}
    assert (aggregates["spent"].dtype, aggregates["spent"].function) == ("int64", function)


def _load_with_int64(folder: Path, function: str, column: str, feature: str) -> Repository:
    old = 'Aggregation(column="amount", function="sum", name="spent")'
    new = f'Aggregation(column="{column}", function="{function}", name="{feature}")'
    definitions = shop.DEFINITIONS.replace(old, new).replace(
        f'"{feature}": Float64', f'"{feature}": Int64'
    )
    assert definitions.count(new) == 1
    return load_repository(shop.make_repository(folder / "repository", definitions))


def test_an_int64_beyond_64_bits_is_null() -> None:
    """Rows and reads of an integer that no store could hold are null; doubles are as they are."""
    aggregates = (
        Aggregate("whole", "int64", "x", "sum", 0, 0),
        Aggregate("real", "float64", "x", "sum", 0, 0),
    )
    state = ViewState(View("v", "t", ("k",), ("string",), aggregates, 0, "offline"))
    times = np.arange(1, 7)
    is_update = np.array([True, False, True, False, True, False])
    added = np.array([[2.0**62], [0.0], [2.0**62], [0.0], [-(2.0**62)], [0.0]])
    slots = state.slots([b"a"] * 6)
    state.hold(Pending(slots, times, times, is_update, times, added))
    rows, reads = state.advance(100, 100)
    wanted = [[2.0**62, 2.0**62], [math.nan, 2.0**63], [2.0**62, 2.0**62]]
    np.testing.assert_array_equal(rows.values, wanted)
    np.testing.assert_array_equal(reads.values, wanted)


def test_an_error_while_publishing_ends_in_order(new_log: Path, tmp_path: Path) -> None:
    """An error in a sink that is being closed is one line and exit code 1, not an abort."""
    folder = shop.make_repository(tmp_path / "repository")
    path = folder / "data" / "models" / "late_order" / "channels.json"
    path.parent.mkdir(parents=True)
    path.write_text("garbage")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "HEADWATER_LOG_URL": new_log.as_uri(),
        "HEADWATER_SHARDS": "3",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "cli.main", "run", "--until-end", "--repo", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr
