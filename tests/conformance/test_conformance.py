"""What we write Feast reads, and what Feast writes we read, in SQLite and in Redis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from contracts.feast_bytes import entity_key
from contracts.feature_schema import FeatureSchema, VectorField
from contracts.plan import View
from scorer.errors import StoreUnavailableError
from scorer.online_store import Wanted
from scorer.online_store import wanted as want
from scorer.vector import VectorFiller
from scorer.vector_plan import check_rows, plan_vector
from tests.conformance.stores import Row, Store, all_features, wanted_of
from tests.conformance.views import CLICKS, DEVICES, HOUR_US, MANY_TYPES, ROUTES, SPEND, TYPES
from tests.scorer.found import Found

T0_US = 1_700_000_000_123_457
ROWS: dict[str, tuple[View, list[Row]]] = {
    "spend": (
        SPEND,
        [
            Row(("ann",), T0_US, (10.25, 3)),
            Row(("Jürgen Öß",), T0_US + 1, (None, 0)),
            Row(("東京🗼",), T0_US + 2_000_000, (-0.0, None)),
            Row(("",), T0_US, (5e-324, -(2**53))),
            Row(("a:b,c=d",), 1_000_000, (1.7976931348623157e308, 2**53)),
        ],
    ),
    "clicks": (
        CLICKS,
        [
            Row(("ann",), T0_US - 5_000_000, (0.5, True)),
            Row(("東京🗼",), T0_US, (math.inf, False)),
            Row(("only clicks",), T0_US, (None, None)),
        ],
    ),
    "routes": (
        ROUTES,
        [
            Row(("JFK", 1), T0_US, (2.5, 7, True)),
            Row(("JFK", -(2**63)), T0_US, (0.1, 1, False)),
            Row(("Zürich", 2**63 - 1), T0_US + 7, (None, 128, None)),
        ],
    ),
    "devices": (
        DEVICES,
        [
            Row((0,), T0_US, (1.5,)),
            Row((-1,), T0_US + 999_999, (-2.5,)),
            Row((300,), T0_US, (0.0,)),
        ],
    ),
}
ENTITIES: list[dict[str, Any]] = [
    {"user": user, "origin": origin, "carrier": carrier, "device": device}
    for user, origin, carrier, device in (
        ("ann", "JFK", 1, 0),
        ("Jürgen Öß", "JFK", -(2**63), -1),
        ("東京🗼", "Zürich", 2**63 - 1, 300),
        ("", "JFK", 2, 1),
        ("a:b,c=d", "", 1, 2),
        ("only clicks", "", 0, 3),
        ("nobody", "", 9, 2**63 - 1),
    )
]
WAYS = {
    "write_to_online_store": Store.feast_writes,
    "online_write_batch": Store.feast_writes_batch,
    "materialize": Store.feast_materializes,
}


def found(store: Store, row: Row) -> Found:
    """What our reader should give for a row that Feast wrote."""
    values = [None if cell is None or isinstance(cell, str) else float(cell) for cell in row.values]
    return Found(store.kept_us(row.stamp_us), values)


def test_feast_cannot_tell_our_rows_from_its_own(new_store: Callable[[], Store]) -> None:
    """Feast answers the same for rows that we wrote and for the same rows that it wrote."""
    ours, feasts = new_store(), new_store()
    for view, rows in ROWS.values():
        ours.we_write(view, rows)
        feasts.feast_writes(view, rows)
    answers = ours.feast_reads(all_features(), ENTITIES)
    assert answers == feasts.feast_reads(all_features(), ENTITIES)
    totals = [answer.value for answer in answers["spend_1h:total"]]
    assert totals == [10.25, None, 0.0, 5e-324, 1.7976931348623157e308, None, None]
    assert math.copysign(1, totals[2]) == -1
    flights = [(answer.value, answer.status) for answer in answers["routes_1h:flights"]]
    assert flights[:3] == [(7, "PRESENT"), (1, "PRESENT"), (128, "PRESENT")]
    assert [value for value, _ in flights[3:]] == [None] * 4
    diverted = [answer.value for answer in answers["routes_1h:diverted"][:3]]
    assert [type(value) for value in diverted] == [bool, bool, type(None)]
    stamps = [answer.stamp_us for answer in answers["devices_1h:heat"][:2]]
    assert stamps == [ours.kept_us(T0_US), ours.kept_us(T0_US + 999_999)]


@pytest.mark.parametrize("way", WAYS)
def test_we_read_what_feast_writes(store: Store, way: str) -> None:
    """Rows that Feast wrote come with their values, nulls and times, whatever wrote them."""
    expected: dict[Wanted, Found] = {}
    for view, rows in ROWS.values():
        WAYS[way](store, view, rows)
        expected |= {wanted_of(view, *row.keys): found(store, row) for row in rows}
    expected |= {
        wanted_of(SPEND, "only clicks"): Found(None, [None, None]),
        wanted_of(CLICKS, ""): Found(None, [None, None]),
        wanted_of(ROUTES, "JFK", 2): Found(None, [None, None, None]),
        wanted_of(DEVICES, 2**63 - 1): Found(None, [None]),
    }
    assert store.we_read(*expected) == list(expected.values())


def test_writers_take_turns_on_one_entity(store: Store) -> None:
    """Feast and we write views of one entity, and newer rows of one view, and both read all."""
    store.we_write(SPEND, [Row(("ann",), T0_US, (1.0, 1))])
    store.feast_writes(CLICKS, [Row(("ann",), T0_US, (0.25, True))])
    later = T0_US + 60_000_000
    wanted = [wanted_of(SPEND, "ann"), wanted_of(CLICKS, "ann")]

    def seen() -> tuple[list[Found], list[Any]]:
        answers = store.feast_reads(all_features()[:4], [{"user": "ann"}])
        return store.we_read(*wanted), [answer.value for (answer,) in answers.values()]

    (spend, clicks), values = seen()
    assert (spend, clicks.values) == (Found(T0_US, [1.0, 1.0]), [0.25, 1.0])
    assert values == [1.0, 1, 0.25, True]
    store.feast_writes(SPEND, [Row(("ann",), later, (2.0, None))])
    store.we_write(CLICKS, [Row(("ann",), later, (None, False))])
    (spend, clicks), values = seen()
    assert spend == Found(store.kept_us(later), [2.0, None])
    assert clicks == Found(later, [None, 0.0])
    assert values == [2.0, None, None, False]
    store.we_write(SPEND, [Row(("ann",), later + 60_000_000, (3.0, 3))])
    assert seen()[0][0] == Found(later + 60_000_000, [3.0, 3.0])


def many_types(store: Store, **values: Any) -> Wanted:
    """A row of the view of every type, written by Feast; the rest of its features is null."""
    typed: dict[str, Any] = {name: values.get(name) for name in TYPES}
    stamp = pd.to_datetime([T0_US], unit="us", utc=True)
    frame = pd.DataFrame(
        {"user": ["ann"], "event_timestamp": stamp, **{n: [v] for n, v in typed.items()}}
    )
    store.feast.write_to_online_store(MANY_TYPES, frame)
    return want(MANY_TYPES, tuple(values), entity_key(("user",), ("string",), ("ann",)))


def test_numbers_of_every_type(store: Store) -> None:
    """Doubles, floats, integers of both widths, booleans and times are read as doubles."""
    wanted = many_types(
        store,
        double=0.1,
        single=0.5,
        long=-(2**63),
        short=-7,
        flag=True,
        moment=datetime(2023, 1, 1, tzinfo=UTC),
    )
    moment = float(datetime(2023, 1, 1, tzinfo=UTC).timestamp())
    values: list[float | None] = [0.1, 0.5, -(2.0**63), -7.0, 1.0, moment]
    assert store.we_read(wanted) == [Found(store.kept_us(T0_US), values)]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [("word", "much", "holds text"), ("series", [1.0, 2.0], "cannot be read")],
)
def test_what_is_no_number_is_refused_by_name(
    store: Store, name: str, value: object, problem: str
) -> None:
    """Text and lists that Feast wrote are an error that names view and feature."""
    wanted = many_types(store, **{"double": 1.5, name: value})
    with pytest.raises(StoreUnavailableError, match=f"{MANY_TYPES}:{name} {problem}"):
        store.we_read(wanted)
    (row,) = store.we_read(want(MANY_TYPES, ("double", "short"), wanted.entity_key))
    assert row.values == [1.5, None]


@pytest.mark.parametrize("write", [Store.we_write, Store.feast_writes])
def test_ttl_is_the_scorers_business(
    store: Store, write: Callable[[Store, View, Sequence[Row]], None]
) -> None:
    """The stores keep and give expired rows; the scorer takes the default for them."""
    stamp_us = 1_700_000_000_000_000
    write(store, SPEND, [Row(("ann",), stamp_us, (10.25, 3))])
    field = VectorField(
        name="spend_1h:total",
        kind="feature",
        dtype="float64",
        default=-1.0,
        view=SPEND.name,
        feature="total",
        join_keys=SPEND.join_keys,
        join_key_types=SPEND.join_key_types,
        ttl_seconds=SPEND.ttl_us / 1e6,
    )
    plan = plan_vector(FeatureSchema(store.feast.config.project, (field,)))
    rows = check_rows(plan, 0, [{"user": "ann"}])
    ((one,),) = rows.wanted
    assert one is not None
    (cells,) = store.we_read_cells(one)
    assert store.we_read(one) == [Found(stamp_us, [10.25])]
    for age_us, value in ((0, 10.25), (HOUR_US, 10.25), (HOUR_US + 1, -1.0)):
        at_us = [stamp_us + age_us]
        vectors = VectorFiller().fill(plan, rows.given, rows.wanted, {one: cells}, at_us)
        assert vectors.values.tolist() == [[value]]
        assert [place.position for place in vectors.missing[0]] == ([0] if value == -1.0 else [])
    (answer,) = store.feast_reads([field.name], [{"user": "ann"}])[field.name]
    assert (answer.value, answer.status) == (10.25, "PRESENT")
