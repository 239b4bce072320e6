"""Versions that score what others answered: for the log alone, off the caller's path, bounded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from contracts.feature_schema import FeatureSchema, VectorField
from contracts.prediction_record import PredictionRecord
from scorer import shadowing
from scorer.errors import StoreUnavailableError
from scorer.metrics import ScorerMetrics
from tests.scorer.graphs import graph, node
from tests.scorer.rollout_shop import (
    AT_NOON,
    add,
    assign_by,
    challenge,
    records,
    shadow,
    until,
    until_routed,
)
from tests.scorer.shop import (
    MODEL,
    ROW,
    SCHEMA,
    Shop,
    bias_of,
    linear_score,
    manifest_for,
)

CARDS = range(40)


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> list[ScorerMetrics]:
    """The metrics of each scorer that is made."""
    made: list[ScorerMetrics] = []

    def new() -> ScorerMetrics:
        made.append(ScorerMetrics())
        return made[-1]

    monkeypatch.setattr("scorer.server.ScorerMetrics", new)
    return made


def counted(metrics: ScorerMetrics, name: str, **labels: str) -> float:
    """The value of a metric of shadows; 0 if it was never touched."""
    name = f"headwater_scorer_shadow_rows_{name}"
    return metrics.registry.get_sample_value(name, {"model": MODEL, **labels}) or 0.0


def rows_in(found: list[PredictionRecord], **fields: object) -> list[tuple[str, float]]:
    """(key, score) of all rows of the records with these fields, sorted."""
    return sorted(
        (row.key, row.score)
        for one in found
        if all(getattr(one, name) == value for name, value in fields.items())
        for row in one.rows
    )


def test_the_log_has_both_scores_of_each_row(
    scorer_shop: Shop, metrics: list[ScorerMetrics]
) -> None:
    """Champion, challenger and shadow have all scored each row once, of the same vector."""
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3")
    add(scorer_shop, "4")
    challenge(scorer_shop, "3", 0.5)
    shadow(scorer_shop, "4")
    rows = [{**ROW, "card": card} for card in CARDS]
    keys = [f"k{card}" for card in CARDS]

    async def run() -> None:
        async with scorer_shop.client() as client:
            await until_routed(client, "3", 0.5)
            await client.score(MODEL, rows, replace(AT_NOON, keys=keys))
            await until(
                lambda: (
                    counted(metrics[0], "total", channel="shadow") == len(rows)
                    and counted(metrics[0], "total", channel="champion")
                    + counted(metrics[0], "total", channel="challenger")
                    == len(rows)
                )
            )

    asyncio.run(run())
    found = records(scorer_shop)
    assert len({one.request_id for one in found}) == 1, "a request without id has one in the log"
    answered = rows_in(found, answered=True)
    assert [key for key, _ in answered] == sorted(keys)
    vectors = {row.key: row.vector for one in found if one.answered for row in one.rows}
    for channel, version in (("champion", "2"), ("challenger", "3"), ("shadow", "4")):
        of_channel = rows_in(found, channel=channel, version=version)
        assert [key for key, _ in of_channel] == sorted(keys)
        for key, score in of_channel:
            expected = linear_score(list(vectors[key]), bias_of(version))  # type: ignore[arg-type]
            assert score == pytest.approx(expected, abs=1e-15)
    assert rows_in(found, channel="shadow", answered=True) == []
    for one in found:
        for row in one.rows:
            # Of the same vector one record is enough.
            assert row.vector == (vectors[row.key] if one.answered else [])
            # Whose the row is does not change with who scores it.
            assert row.channel in ("champion", "challenger")
            if one.answered:
                assert row.channel == one.channel


def test_answers_are_the_same_with_a_shadow(scorer_shop: Shop) -> None:
    """To the last bit: the champion's scores do not know of it."""
    rows = [{**ROW, "card": card, "amount": 0.1 * card} for card in CARDS]
    answers: list[list[float]] = []

    async def run(beside: dict[str, str]) -> None:
        async with scorer_shop.client() as client:
            assert (await client.channels())[MODEL] == {"champion": "1", **beside}
            found = [await client.score(MODEL, rows, AT_NOON) for _ in range(3)]
        answers.extend(one.scores for one in found)

    asyncio.run(run({}))
    add(scorer_shop, "2")
    shadow(scorer_shop, "2")
    asyncio.run(run({"shadow": "2"}))
    assert all(one == answers[0] for one in answers)
    shadowed = rows_in(records(scorer_shop), channel="shadow", answered=False)
    assert len(shadowed) == 3 * len(rows)


def test_a_shadow_that_fails_harms_nobody(scorer_shop: Shop, metrics: list[ScorerMetrics]) -> None:
    """Infinite scores, and inputs that nobody gives, are counted and told once."""
    add(scorer_shop, "2", only_with_coupon())
    shadow(scorer_shop, "2")

    async def run() -> None:
        async with scorer_shop.client() as client:
            for _ in range(5):
                assert (await client.score(MODEL, [ROW] * 2, AT_NOON)).versions == ["1", "1"]
            await until(lambda: counted(metrics[0], "dropped_total", reason="error") == 10)

    with capture_logs() as logs:
        asyncio.run(run())
    told = [one for one in logs if one["event"] == "shadow_cannot_score"]
    assert ["coupon" in one["reason"] for one in told] == [True]
    assert all(one.answered for one in records(scorer_shop))


def only_with_coupon() -> FeatureSchema:
    """A vector with an input that callers of version 1 do not give."""
    coupon = VectorField("coupon", "request", "float64", 0.0)
    return FeatureSchema(SCHEMA.project, (*SCHEMA.fields[:5], coupon))


def test_a_shadow_with_other_features_reads_them(
    scorer_shop: Shop, metrics: list[ScorerMetrics]
) -> None:
    """Its vector is read for it, and stands in its record."""
    schema = FeatureSchema(SCHEMA.project, (SCHEMA.fields[4], SCHEMA.fields[0]))
    add(scorer_shop, "2", schema)
    shadow(scorer_shop, "2")

    async def run() -> None:
        async with scorer_shop.client() as client:
            await client.score(MODEL, [ROW, {**ROW, "card": 1}], replace(AT_NOON, keys=["a", "b"]))
            await until(lambda: counted(metrics[0], "total", channel="shadow") == 2)

    asyncio.run(run())
    (record,) = (one for one in records(scorer_shop) if not one.answered)
    assert record.features == ["card_1h:visits", "amount"]
    assert [row.vector for row in record.rows] == [[4.0, 2.5], [-2.0, 2.5]]
    assert record.rows[1].missing == ["card_1h:visits"]
    assert [row.key for row in record.rows] == ["a", "b"]


def test_what_a_slow_store_is_asked_for_is_asked_at_once(
    scorer_shop: Shop, metrics: list[ScorerMetrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several requests are read for a shadow at the same time: none waits for another's read."""
    add(scorer_shop, "2", FeatureSchema(SCHEMA.project, (SCHEMA.fields[4], SCHEMA.fields[0])))
    shadow(scorer_shop, "2")
    count, begins, under_way = 5, list[shadowing.Shadowing](), list[int]()
    start, read = shadowing.Shadowing.start, shadowing.Shadowing._read
    all_ask = asyncio.Event()

    async def read_when_all_ask(self: shadowing.Shadowing, job: shadowing._Job) -> Any:
        under_way.append(1)
        if len(under_way) == count:
            all_ask.set()
        await all_ask.wait()
        return await read(self, job)

    monkeypatch.setattr(shadowing.Shadowing, "_read", read_when_all_ask)
    # It begins when all requests wait for it, so that they come as one.
    monkeypatch.setattr(shadowing.Shadowing, "start", lambda self: begins.append(self))

    async def run() -> None:
        async with scorer_shop.client() as client:
            for _ in range(count):
                await client.score(MODEL, [ROW], AT_NOON)
            start(begins[0])
            await until(lambda: counted(metrics[0], "total", channel="shadow") == count)

    asyncio.run(run())
    assert sum(not one.answered for one in records(scorer_shop)) == count


def test_one_that_cannot_be_read_leaves_the_others(
    scorer_shop: Shop, metrics: list[ScorerMetrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of slices of one request those are dropped and counted that the store does not give."""
    add(scorer_shop, "2", FeatureSchema(SCHEMA.project, (SCHEMA.fields[4], SCHEMA.fields[0])))
    shadow(scorer_shop, "2")
    begins, read, asked = list[shadowing.Shadowing](), shadowing.Shadowing._read, list[int]()
    start = shadowing.Shadowing.start

    async def read_all_but_the_second(self: shadowing.Shadowing, job: shadowing._Job) -> Any:
        asked.append(1)
        if len(asked) == 2:
            raise StoreUnavailableError("gone for a moment")
        return await read(self, job)

    monkeypatch.setattr(shadowing.Shadowing, "_read", read_all_but_the_second)
    monkeypatch.setattr(shadowing.Shadowing, "start", lambda self: begins.append(self))

    async def run() -> None:
        async with scorer_shop.client() as client:
            for key in ("a", "b", "c"):
                wanted = replace(AT_NOON, keys=[key, f"{key}2"], request_id="same")
                await client.score(MODEL, [ROW] * 2, wanted)
            start(begins[0])
            await until(lambda: counted(metrics[0], "total", channel="shadow") == 4)

    asyncio.run(run())
    assert counted(metrics[0], "dropped_total", reason="error") == 2
    found = [one for one in records(scorer_shop) if not one.answered]
    assert [row.key for one in found for row in one.rows] == ["a", "a2", "c", "c2"]


def test_what_is_too_much_is_dropped_and_counted(
    scorer_shop: Shop, metrics: list[ScorerMetrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row is scored, or counted as one that was not; all answers are in the log."""
    monkeypatch.setattr(shadowing, "_GATHER_SECONDS", 0.2)
    add(scorer_shop, "2")
    shadow(scorer_shop, "2")

    async def run() -> None:
        async with scorer_shop.client(shadow_rows_max=50) as client:
            for _ in range(20):
                await client.score(MODEL, [ROW] * 10, AT_NOON)
            await until(
                lambda: (
                    counted(metrics[0], "total", channel="shadow")
                    + counted(metrics[0], "dropped_total", reason="full")
                    == 200
                )
            )

    asyncio.run(run())
    found = records(scorer_shop)
    assert sum(len(one.rows) for one in found if one.answered) == 200
    shadowed = sum(len(one.rows) for one in found if not one.answered)
    assert shadowed == counted(metrics[0], "total", channel="shadow")


def test_rows_without_keys_can_be_told_apart(
    scorer_shop: Shop, metrics: list[ScorerMetrics]
) -> None:
    """Those of a request of several get its id and their number; a single row keeps none."""
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3")
    challenge(scorer_shop, "3", 0.5)
    rows = [{**ROW, "card": card} for card in CARDS]

    async def run() -> None:
        async with scorer_shop.client() as client:
            await until_routed(client, "3", 0.5)
            await client.score(MODEL, rows, replace(AT_NOON, request_id="many"))
            await client.score(MODEL, rows[0], replace(AT_NOON, request_id="one"))
            await until(lambda: len(records(scorer_shop)) >= 6)

    asyncio.run(run())
    found = records(scorer_shop)
    many = [row for one in found if one.request_id == "many" for row in one.rows]
    assert all(row.key == f"many#{row.inputs['card']}" for row in many)
    assert len(many) == 2 * len(rows)
    assert [row.key for one in found if one.request_id == "one" for row in one.rows] == ["", ""]


def test_a_large_request_is_shadowed_in_slices(
    scorer_shop: Shop, metrics: list[ScorerMetrics]
) -> None:
    """Rows of one request come in several records, all of them, in order."""
    add(scorer_shop, "2")
    shadow(scorer_shop, "2")
    count = 2_000
    keys = [f"{number:04}" for number in range(count)]

    async def run() -> None:
        async with scorer_shop.client() as client:
            await client.score(MODEL, [ROW] * count, replace(AT_NOON, keys=keys))
            await until(lambda: counted(metrics[0], "total", channel="shadow") == count)

    asyncio.run(run())
    found = [one for one in records(scorer_shop) if not one.answered]
    assert len(found) > 1
    assert [row.key for one in found for row in one.rows] == keys


def test_a_scorer_that_stops_counts_what_it_leaves(
    scorer_shop: Shop, metrics: list[ScorerMetrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that wait when the scorer ends are counted, and it ends in time."""
    monkeypatch.setattr(shadowing, "_GATHER_SECONDS", 60.0)
    add(scorer_shop, "2")
    shadow(scorer_shop, "2")

    async def run() -> None:
        async with asyncio.timeout(30), scorer_shop.client() as client:
            await client.score(MODEL, [ROW] * 3, AT_NOON)

    asyncio.run(run())
    assert counted(metrics[0], "dropped_total", reason="stopped") == 3


def test_a_version_that_breaks_at_run_time_is_counted(
    scorer_shop: Shop, metrics: list[ScorerMetrics]
) -> None:
    """A shadow whose scores are not finite leaves no record, and the champion's stays."""
    nodes = [
        node("ReduceSum", "features axis", "total", keepdims=1),
        node("Exp", "total", "score"),
    ]
    data = graph(len(SCHEMA.fields), nodes, {"axis": np.array([1])})
    scorer_shop.repository.publish(manifest_for("2", data), data)
    shadow(scorer_shop, "2")

    async def run() -> None:
        async with scorer_shop.client() as client:
            await client.score(MODEL, [{**ROW, "amount": 1e9}], AT_NOON)
            await until(lambda: counted(metrics[0], "dropped_total", reason="error") == 1)

    asyncio.run(run())
    assert [one.version for one in records(scorer_shop)] == ["1"]
