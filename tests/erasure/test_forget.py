"""Who is forgotten is gone from every store, stays away, and nobody else is touched."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import duckdb
import pytest

from contracts.online_store import SqliteConfig
from contracts.plan import View
from dataflows.definitions.repository import Repository
from dataflows.erasure.tombstones import read_tombstones, tombstones_path
from dataflows.erasure.wanted import ErasureError
from dataflows.flow.run_context import Places
from dataflows.flow.target import cut_at_end, log_end
from dataflows.replay.places import fresh_places
from tests.erasure.conftest import NewWorld
from tests.erasure.world import USER_VIEWS, Contents, World, bytes_below, contents, moved
from tests.flow import shop

# What is forgotten: as the command has it, its values by sorted name, and the same by name.
USER = ("user", ("u3",), {"user": "u3"})
SHOP = ("shop", (2,), {"shop": 2})
BOTH = ("user,shop", (1, "u4"), {"user": "u4", "shop": 1})
Who = tuple[str, tuple[Any, ...], dict[str, Any]]


def _is_of(view: View, parts: tuple[Any, ...], who: Who) -> bool:
    values = dict(zip(view.join_keys, parts, strict=True))
    return all(name in values and values[name] == value for name, value in who[2].items())


def _without(repository: Repository, found: Contents, who: Who, orders: set[str]) -> Contents:
    """The contents without rows of somebody, whose orders are these."""
    left: Contents = {}
    for name, rows in found.items():
        store, _, view = name.partition(" ")
        if view:
            of = repository.plan.view(view)
            left[name] = [row for row in rows if not _is_of(of, row[0], who)]
        else:
            left[name] = [row for row in rows if row.split("'")[1] not in orders]
        assert store
    return left


def _orders_of(records: list[shop.Record], who: Who) -> set[str]:
    return {
        one.fields["order_id"]
        for one in records
        if one.topic == "orders"
        and one.fields is not None
        and all(one.fields[name] == value for name, value in who[2].items())
    }


@pytest.mark.parametrize(("who", "share"), [(USER, 0.6), (SHOP, 0.3), (BOTH, 0.97)])
def test_live_and_replay_forget_alike(
    new_world: NewWorld, records: list[shop.Record], who: Who, share: float
) -> None:
    """Nobody else's rows change at the erasure; what goes on after it is what a replay comes to."""
    world, cut = new_world(), int(len(records) * share)
    world.write(records[:cut])
    world.stop_at_end()
    before = contents(world.repository, world.out)
    report = world.forget(who[0], who[1])
    after = contents(world.repository, world.out)
    orders = _orders_of(records[:cut], who)
    assert after == _without(world.repository, before, who, orders)
    assert report.rows == sum(len(before[name]) - len(after[name]) for name in before) > 20
    world.write(records[cut:])
    world.run_to_end()
    live = contents(world.repository, world.out)
    assert live == contents(world.repository, world.rebuild())
    # What comes later is somebody new, and no less than before.
    views = [view.name for view in world.repository.plan.views if set(who[2]) <= {*view.join_keys}]
    for name in views:
        view = world.repository.plan.view(name)
        assert any(_is_of(view, parts, who) for parts, *_ in live[f"online {name}"])


def test_a_replay_is_that_of_a_log_without_the_person(
    repository: Repository, new_world: NewWorld, records: list[shop.Record]
) -> None:
    """Also scores and model versions are those of a log that never had the person's records."""
    ordered = [
        one
        for one in records
        if one.fields is not None and one.fields["event_us"] == one.at_us
    ]  # fmt: skip
    # Orders of a user count for shops, too: what is kept of these is another matter.
    plan = repository.plan
    views = tuple(view for view in plan.views if view.name != "shop_orders")
    model = plan.model("late_order")
    fields = tuple(one for one in model.schema.fields if one.view != "shop_orders")
    model = replace(
        model,
        views=tuple(view.name for view in views),
        schema=replace(model.schema, fields=fields),
    )
    own = replace(repository, plan=replace(plan, views=views, models=(model,)))
    world, other = (
        World(made.out, moved(own, made.out)) for made in (new_world("with"), new_world("without"))
    )
    world.write(ordered)
    world.stop_at_end()
    world.forget("user", ("u3",))
    other.write(
        [one for one in ordered if one.fields is None or one.fields.get("user") != "u3"]
    )  # fmt: skip
    names = [view.name for view in views]
    found = shop.digests(world.rebuild(), names)
    assert found == shop.digests(other.rebuild(), names)
    assert found["models"] != shop.digests(world.out, names)["models"]


def test_no_file_says_anything_of_the_person(
    new_world: NewWorld, records: list[shop.Record]
) -> None:
    """Some epochs after the erasure no state, table or store of ours has the key or its orders."""
    made, cut = new_world(), len(records) // 4
    # Figures by segment name the segments: the report says that these stay.
    plan = made.repository.plan
    model = replace(plan.model("late_order"), segments=("shop",))
    world = World(made.out, replace(made.repository, plan=replace(plan, models=(model,))))
    orders = _orders_of(records, USER)

    def renamed(one: shop.Record) -> shop.Record:
        line = one.line.replace(b'"u3"', b'"person-of-note"')
        for order in orders:
            line = line.replace(f'"{order}"'.encode(), f'"order-of-note-{order}"'.encode())
        return replace(one, line=line)

    world.write([renamed(one) for one in records[:cut]])
    world.stop_at_end(epoch_seconds=0.0, batch_bytes=6_000)
    assert bytes_below(world.out / "state", b"person-of-note")
    assert bytes_below(world.out / "state", b"order-of-note")
    world.forget("user", ("person-of-note",))
    own = [name for name in bytes_below(world.out, b"of-note") if not name.startswith("log/")]
    # The state's files are the next run's.
    assert [name for name in own if not name.startswith("state/")] == []
    others = [one for one in records[cut:] if one.fields and one.fields.get("user") != "u3"]
    others = [one for one in others if one.fields and one.fields.get("order_id") not in orders]
    world.write(others)
    world.stop_at_end(epoch_seconds=0.0, batch_bytes=6_000)
    left = [name for name in bytes_below(world.out, b"of-note") if not name.startswith("log/")]
    assert left == []


def test_an_interrupted_replay_forgets_too(new_world: NewWorld, records: list[shop.Record]) -> None:
    """What it has built so far is cleaned, and when it goes on it brings nobody back."""
    world, cut = new_world(), len(records) // 2
    world.write(records[:cut])
    world.stop_at_end()
    fresh = fresh_places(world.places)
    world.run(fresh, cut_at_end, idle_timeout_seconds=3_600.0)
    assert _rows_of(fresh, "u3")
    world.forget("user", ("u3",))
    assert _rows_of(fresh, "u3") == []
    world.run(fresh, log_end)
    assert _rows_of(fresh, "u3") == []
    assert _rows_of(fresh, "u4")


def _rows_of(places: Places, user: str) -> list[str]:
    """Stores in which a user has rows."""
    found = []
    for name in USER_VIEWS:
        with closing(duckdb.connect()) as connection:
            path = places.offline[name] / "*.parquet"
            query = f"SELECT count(*) FROM read_parquet('{path}') WHERE \"user\" = '{user}'"
            found += [name] * (connection.execute(query).fetchall() != [(0,)])
        assert isinstance(places.online, SqliteConfig)
        with closing(sqlite3.connect(places.online.path)) as online:
            keys = online.execute(f"SELECT entity_key FROM shop_{name}").fetchall()
            found += ["online"] * any(user.encode() in key for (key,) in keys)
    return found


def test_a_preview_counts_and_changes_nothing(
    new_world: NewWorld, records: list[shop.Record]
) -> None:
    """A dry run says what the erasure then does, and leaves no tombstone."""
    world = new_world()
    world.write(records[:600])
    world.stop_at_end()
    before = contents(world.repository, world.out)
    counted = world.preview("user", ("u1",), ("u2",))
    assert contents(world.repository, world.out) == before
    assert not tombstones_path(world.settings().state_dir).exists()
    done = world.forget("user", ("u1",), ("u2",))
    assert counted.removed == done.removed
    assert (counted.tombstones, done.tombstones) == ((), (1, 2))
    assert {one.where for one in done.removed} == {"online", "offline", "examples", "outcomes"}
    assert {one.where for one in done.remains} == {"state", "log", "models", "evaluation"}
    found = read_tombstones(world.settings().state_dir)
    assert found is not None
    assert [(one.by, one.is_done) for one in found.tombstones] == [("ann", True), ("ann", True)]


def test_forgetting_again_finds_nothing(new_world: NewWorld, records: list[shop.Record]) -> None:
    """Also who was never heard of gets a tombstone, and what is stored stays as it is."""
    world = new_world()
    world.write(records[:300])
    world.stop_at_end()
    world.forget("user", ("u1",))
    before = contents(world.repository, world.out)
    for name in ("u1", "nobody"):
        report = world.forget("user", (name,))
        assert not report.removed
        assert len(report.tombstones) == 1
    assert contents(world.repository, world.out) == before
    world.run_to_end()
    assert contents(world.repository, world.out) == contents(world.repository, world.rebuild())


@pytest.mark.parametrize(
    ("entity", "key", "says"),
    [
        ("person", ("u1",), "no view has an entity 'person'; there are shop, user"),
        ("user,user", ("u1",), "names a join key twice"),
        ("shop", ("u1",), r"key 1 is not of the type that views have: shop \(int64\)"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    new_world: NewWorld, entity: str, key: tuple[Any, ...], says: str
) -> None:
    """Nothing is left behind, a tombstone least of all."""
    world = new_world()
    typed = tuple(None if entity == "shop" else value for value in key)
    with pytest.raises(ErasureError, match=says):
        world.forget(entity, typed)
    assert not tombstones_path(world.settings().state_dir).exists()


def test_entities_of_feast_are_known(repository: Repository) -> None:
    """An entity may be called by its name in Feast."""
    assert repository.entities == {"user": "user", "shop": "shop"}
