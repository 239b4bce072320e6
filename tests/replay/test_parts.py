"""Parts of a replay: what is named is anew and equal to a run in one go, all else is untouched."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from contracts.online_store import SqliteConfig
from dataflows.flow.errors import EngineError
from dataflows.replay.job import drop
from dataflows.replay.options import Moment, Offsets, OptionsError
from dataflows.replay.selection import SelectionError
from dataflows.stores.digest import digest_parquet
from tests.flow import shop
from tests.integration.commands import Commands
from tests.replay.world import VISIT_SUMS, World, files_below, make_world

DAY_2 = int(datetime(2013, 1, 2, tzinfo=UTC).timestamp()) * 1_000_000
MORE = shop.DEFINITIONS + VISIT_SUMS
ORDER_COUNTS = """
order_counts = view(
    "order_counts", [shop], ORDERS, {"shop": Int64}, [over("count", 15, 15, "counted")],
    {"counted": Int64})
"""
PICKY = """
def picked(rows):
    if 2 in rows["pages"]:
        raise ValueError("too many pages")
    return rows


picky = view(
    "picky", [user], VISITS, {"user": String},
    [Aggregation(column="seconds", function="last", name="seconds_last")],
    {"seconds_last": Float64}, udf=picked, udf_string="picked")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, records: list[shop.Record]) -> World:
    """A world that came to the end of its log; to be copied."""
    world = _written(tmp_path_factory.mktemp("made"), records)
    world.run()
    return world


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, records: list[shop.Record]) -> World:
    """A world whose dataflow was stopped in the middle of its log; to be copied."""
    world = _written(tmp_path_factory.mktemp("stopped"), records)
    world.run_and_stop()
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy of the one at its end."""
    return _copy(made, tmp_path)


@pytest.fixture
def halved(stopped: World, tmp_path: Path) -> World:
    """A copy of the one that was stopped."""
    return _copy(stopped, tmp_path)


def _written(folder: Path, records: list[shop.Record]) -> World:
    world = make_world(folder / "repository", MORE)
    world.write(_first(records))
    return world


def _copy(world: World, folder: Path) -> World:
    shutil.copytree(world.folder, folder / "repository")
    return World(folder / "repository", world.given)


def _line_at(world: World, partition: str, share: float) -> int:
    """Where the line begins that is so far into a partition's file."""
    lines = (world.log / f"{partition}.ndjson").read_bytes()
    return lines.find(b"\n", int(share * len(lines))) + 1 if share < 1.0 else 2 * len(lines)


def _first(records: list[shop.Record]) -> list[shop.Record]:
    return records[: len(records) * 3 // 4]


def _rest(records: list[shop.Record]) -> list[shop.Record]:
    return records[len(records) * 3 // 4 :]


def test_online_values_alone(world: World) -> None:
    """An online store that was wiped is rebuilt; no file of state, tables or models changes."""
    before = world.digest()
    files = _files(world)
    _online(world).unlink()
    world.replay(results=("online",))
    assert world.digest() == before
    assert _files(world) == files
    assert world.run().tally.events == 0


def test_online_values_of_one_view(world: World) -> None:
    """Rows of the other views stay as they are, right or wrong."""
    before = world.digest()
    for view in ("visit_sums", "shop_orders"):
        _execute(world, f"UPDATE shop_{view} SET value = x'00'")
    world.replay(views=("visit_sums",), results=("online",))
    assert _values(world, "shop_orders") == {b"\x00"}
    assert b"\x00" not in _values(world, "visit_sums")
    world.replay(results=("online",))
    assert world.digest() == before


def test_offline_tables_alone(world: World) -> None:
    """Lost tables come back."""
    before = world.digest()
    for name in ("user_orders", "visit_sums"):
        shutil.rmtree(world.places.offline[name])
    world.replay(results=("offline",))
    assert world.digest() == before


def test_the_flow_goes_on_with_repaired_results(
    halved: World, records: list[shop.Record], whole_with_more: World
) -> None:
    """Everything was lost but state and models; the flow goes on as if nothing had been."""
    for folder in (*halved.places.offline.values(), halved.places.examples):
        shutil.rmtree(folder)
    _online(halved).unlink()
    halved.replay(results=("online", "offline", "examples"))
    halved.write(_rest(records))
    halved.run()
    assert halved.digest() == whole_with_more.digest()


def test_examples_alone(world: World) -> None:
    """Lost examples come back; models stay as they are to the last byte."""
    before, models = world.digest(), files_below(world.places.models)
    shutil.rmtree(world.places.examples / "late_order" / "examples")
    world.replay(results=("examples",))
    assert world.digest() == before
    assert files_below(world.places.models) == models


def test_some_days_of_a_table(world: World) -> None:
    """Only days from --from on are replaced, each as a whole."""
    view = world.places.offline["visit_sums"]
    right = digest_parquet(view)
    first, second = sorted(view.glob("*.parquet"))
    for path in (first, second):
        _spoil(path)
    spoilt = first.read_bytes()
    world.replay(views=("visit_sums",), results=("offline",), begin=Moment(DAY_2 + 3_600_000_000))
    assert first.read_bytes() == spoilt
    assert digest_parquet(second) != digest_parquet(first)
    world.replay(views=("visit_sums",), results=("offline",), end=Moment(DAY_2))
    assert digest_parquet(view) == right


def test_a_part_from_a_time_on(
    halved: World, records: list[shop.Record], whole_with_more: World
) -> None:
    """Bounded windows need the log from their length before that day on; state goes on with it."""
    replayed = halved.replay(views=("visit_sums",), begin=Moment(DAY_2 + 1))
    assert replayed.job.span is not None
    halved.write(_rest(records))
    halved.run()
    assert halved.digest() == whole_with_more.digest()


def test_a_table_from_offsets_on(world: World) -> None:
    """Reading begins there; days that are not whole then are not replaced."""
    view = world.places.offline["visit_sums"]
    right = digest_parquet(view)
    first, second = sorted(view.glob("*.parquet"))
    whole_days = first.read_bytes()
    for path in (first, second):
        _spoil(path)
    spoilt = first.read_bytes()
    of_visits: dict[str, object] = {"views": ("visit_sums",), "results": ("offline",)}
    world.replay(**of_visits, begin=Offsets({"visits/0": _line_at(world, "visits/0", 0.25)}))
    assert first.read_bytes() == spoilt
    first.write_bytes(whole_days)
    assert digest_parquet(view) == right
    for share in (0.9, 2.0):
        begin = Offsets({"visits/0": _line_at(world, "visits/0", share)})
        with pytest.raises(EngineError, match=r"no whole day|nothing was read of visits/0"):
            world.replay(**of_visits, begin=begin)
        assert not drop(world.places)
    assert digest_parquet(view) == right


def test_offsets_of_one_partition_bound_all(world: World) -> None:
    """No row of a partition that was not read in full is taken for one that is not there."""
    world.define(MORE + ORDER_COUNTS)
    world.replay()
    before = world.digest()
    early, late = (_line_at(world, "orders/1", share) for share in (0.1, 0.9))
    for options in (
        {"views": ("order_counts",), "results": ("offline",), "begin": Offsets({"orders/1": late})},
        {"views": ("order_counts",), "results": ("offline",), "end": Offsets({"orders/1": early})},
        {"results": ("examples",), "end": Offsets({"orders/1": early})},
    ):
        with pytest.raises(EngineError, match="no whole day"):
            world.replay(**options)
        assert not drop(world.places)
        assert world.digest() == before
    world.replay(results=("offline", "examples"), end=Offsets({"orders/1": late}))
    assert world.digest() == before


def test_what_is_gone(halved: World, records: list[shop.Record], whole: World) -> None:
    """A view that was taken out of the definitions goes without anything being read."""
    halved.define(shop.DEFINITIONS)
    replayed = halved.replay(views=("visit_sums",))
    assert replayed.events == 0
    assert _values(halved, "visit_sums") == set()
    halved.write(_rest(records))
    halved.run()
    assert halved.digest() == whole.digest()


def test_a_view_is_served_until_its_replay(halved: World, commands: Commands) -> None:
    """Applying definitions without a view leaves its values; the replay takes them away."""
    assert halved.start(commands, "apply").wait() == 0
    before = _values(halved, "visit_sums")
    assert before
    halved.define(shop.DEFINITIONS)
    assert halved.start(commands, "apply").wait() == 0
    assert _values(halved, "visit_sums") == before
    halved.replay(views=("visit_sums",))
    assert _values(halved, "visit_sums") == set()


def test_a_record_that_another_view_refuses(tmp_path: Path, records: list[shop.Record]) -> None:
    """It counts for no view, in the replay of one that takes it too."""
    world = make_world(tmp_path / "picky", shop.DEFINITIONS + VISIT_SUMS + PICKY)
    world.write(_first(records))
    world.run()
    before = world.digest()
    assert sum(len(path.read_bytes()) for path in world.log.glob("visits.dlq/*")) > 1_000
    shutil.rmtree(world.places.offline["visit_sums"])
    world.replay(views=("visit_sums",), results=("online", "offline"))
    assert world.digest() == before


def test_a_changed_view(world: World, records: list[shop.Record], tmp_path: Path) -> None:
    """Its values are those of the new definition at once, in all tables, and later too."""
    changed = MORE.replace(
        'function="max", name="longest_10m"', 'function="min", name="longest_10m"'
    )
    world.define(changed)
    with pytest.raises(EngineError, match="changed since the state"):
        world.run()
    world.replay(views=("visit_sums",))
    other = make_world(tmp_path / "other", changed)
    other.write(_first(records))
    other.run()
    world.run()
    assert world.digest() == other.digest()
    for one in (world, other):
        one.write(_rest(records))
        one.run()
    assert world.digest() == other.digest()


def test_a_model_with_its_views(halved: World, records: list[shop.Record], tmp_path: Path) -> None:
    """A changed learner is learned anew; examples and versions are its own from the first one."""
    changed = MORE.replace("optim.SGD(0.01)", "optim.SGD(0.05)")
    halved.define(changed)
    replayed = halved.replay(models=("late_order",))
    assert "visit_sums" not in replayed.job.selection.views
    other = make_world(tmp_path / "other", changed)
    other.write(records)
    other.run()
    halved.write(_rest(records))
    halved.run()
    assert halved.digest() == other.digest()


def test_a_model_that_has_published_nothing_yet(
    halved: World, records: list[shop.Record], tmp_path: Path
) -> None:
    """Versions of the old learner do not stay in the place of those that are still to come."""
    changed = MORE.replace("optim.SGD(0.01)", "optim.SGD(0.05)")
    changed = changed.replace(
        "publish_every=timedelta(minutes=30)", "publish_every=timedelta(days=9)"
    )
    halved.define(changed)
    halved.replay(models=("late_order",))
    other = make_world(tmp_path / "other", changed)
    other.write(records)
    other.run()
    halved.write(_rest(records))
    halved.run()
    assert halved.digest() == other.digest()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"views": ("nothing",)}, "has no view 'nothing'"),
        ({"models": ("nothing",)}, "has no model 'nothing'"),
        ({"begin": Moment(DAY_2)}, "learns from its first example"),
        ({"views": ("visit_sums",), "end": Moment(DAY_2)}, "leaves what is current alone"),
        ({"results": ("online",), "end": Moment(DAY_2)}, "leaves what is current alone"),
        ({"views": ("visit_sums",), "results": ("examples",)}, "--examples needs a model"),
        ({"views": ("visit_sums",), "begin": Offsets({"*": 5})}, "name --offline too"),
        (
            {"views": ("visit_sums",), "results": ("offline",), "begin": Offsets({"x/0": 5})},
            "--from names x/0",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(
    world: World, options: dict[str, object], reason: str
) -> None:
    """Before anything is read or changed."""
    before = files_below(world.folder / "data")
    with pytest.raises((OptionsError, SelectionError, EngineError), match=reason):
        world.replay(**options)
    changed = {n for n, c in files_below(world.folder / "data").items() if before.get(n) != c}
    assert all(name.endswith((".lock", "-shm", "-wal")) for name in changed), changed


def test_more_changes_than_the_part_are_refused(world: World) -> None:
    """A part beside something else that changed is refused, by name; so are results alone."""
    world.define(MORE.replace("optim.SGD(0.01)", "optim.SGD(0.05)"))
    with pytest.raises(EngineError, match="model late_order is changed"):
        world.replay(views=("visit_sums",))
    with pytest.raises(EngineError, match="definitions changed"):
        world.replay(results=("online",))


def test_a_part_needs_a_state(world: World) -> None:
    """Without the state that it would be a part of, everything has to be replayed."""
    shutil.rmtree(world.places.state)
    with pytest.raises(EngineError, match="replay everything"):
        world.replay(views=("visit_sums",))


def _online(world: World) -> Path:
    assert isinstance(world.places.online, SqliteConfig)
    return world.places.online.path


def _execute(world: World, statement: str) -> None:
    with closing(sqlite3.connect(_online(world))) as connection, connection:
        connection.execute(statement)


def _values(world: World, view: str) -> set[bytes]:
    with closing(sqlite3.connect(_online(world))) as connection:
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master")]
        if f"shop_{view}" not in names:
            return set()
        return {value for (value,) in connection.execute(f"SELECT value FROM shop_{view}")}


def _spoil(path: Path) -> None:
    """Let every second row go."""
    other = path.with_suffix(".spoilt")
    with closing(duckdb.connect()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"COPY (SELECT * FROM read_parquet('{path}') USING SAMPLE 50% (bernoulli, 1)) "
            f"TO '{other}' (FORMAT parquet)"
        )
    other.replace(path)


def _files(world: World) -> dict[str, bytes]:
    """All files but those of the log, of the online store, of locks, progress and recovery."""
    left_out = ("log/", "online.db", ".lock", "progress/", "recovery/", "rate.json")
    return {
        name: content
        for name, content in files_below(world.folder / "data").items()
        if not any(part in name for part in left_out)
    }
