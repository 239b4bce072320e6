"""Champion and challenger: who answers which row, and what the answer and the log say of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from contracts.assignment import is_challenged, place_of
from contracts.category import text_of
from contracts.feature_schema import FeatureSchema, VectorField
from scorer.client import Scalar, ScoreItem, ScoreOptions
from tests.scorer.rollout_shop import (
    AT_NOON,
    add,
    assign_by,
    challenge,
    records,
    until_routed,
)
from tests.scorer.shop import (
    MODEL,
    ROW,
    SCHEMA,
    VECTOR,
    Shop,
    bias_of,
    linear_score,
    schema_with,
)
from tests.scorer.test_metrics import Page
from tests.services.server import free_ports

CARDS = range(1_000)


def rows_of(cards: range) -> list[dict[str, Scalar]]:
    """A row for each card."""
    return [{**ROW, "card": card} for card in cards]


def challenged(cards: range, share: float, salt: str = "salt") -> list[bool]:
    """Which of them are the challenger's, by the contract."""
    return [is_challenged(salt, str(card), share) for card in cards]


def test_each_row_goes_by_its_entity_and_the_answer_says_so(scorer_shop: Shop) -> None:
    """One request is answered by two versions, in its order; the log has each row once."""
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3")
    challenge(scorer_shop, "3", 0.3)

    async def run() -> None:
        async with scorer_shop.client(shadow_load_max=0.0) as client:
            await until_routed(client, "3", 0.3)
            keys = [f"key-{card}" for card in CARDS]
            options = replace(AT_NOON, keys=keys, request_id="r")
            answer = await client.score(MODEL, rows_of(CARDS), options)
            theirs = challenged(CARDS, 0.3)
            assert answer.version == "2"
            assert answer.versions == ["3" if one else "2" for one in theirs]
            assert answer.channels == ["challenger" if one else "champion" for one in theirs]
            for card, version in zip(CARDS, answer.versions, strict=True):
                alone = await client.score(MODEL, rows_of(range(card, card + 1)), AT_NOON)
                assert (alone.version, alone.versions) == (version, [version])
                assert alone.scores == [answer.scores[card]]
                if card == 50:
                    break
            assert abs(theirs.count(True) / len(CARDS) - 0.3) < 0.06

    asyncio.run(run())
    ours, theirs = (
        next(r for r in records(scorer_shop) if (r.request_id, r.version) == ("r", version))
        for version in ("2", "3")
    )
    assert (ours.channel, theirs.channel) == ("champion", "challenger")
    assert (ours.answered, theirs.answered) == (True, True)
    assert {row.channel for row in ours.rows} == {"champion"}
    assert {row.channel for row in theirs.rows} == {"challenger"}
    keys = [row.key for one in (ours, theirs) for row in one.rows]
    assert sorted(keys) == sorted(f"key-{card}" for card in CARDS)
    assert all(row.key == f"key-{row.inputs['card']}" for row in theirs.rows)


@given(st.text(max_size=8), st.lists(st.text(min_size=1), max_size=20), st.floats(0, 1))
def test_a_growing_share_only_adds(salt: str, values: list[str], share: float) -> None:
    """Who is the challenger's at a share is so at any larger one, and everybody is at 1."""
    for value in values:
        assert 0 <= place_of(salt, value) < 1
        assert is_challenged(salt, value, 1.0)
        assert not is_challenged(salt, value, 0.0)
        if is_challenged(salt, value, share):
            assert is_challenged(salt, value, (1 + share) / 2)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_shares_are_what_they_say(share: float) -> None:
    """Of 10,000 entities the challenger gets its share, and another salt gives others."""
    cards = range(10_000)
    first, second = challenged(cards, share, "a"), challenged(cards, share, "b")
    # Five standard deviations.
    bound = 5 * (share * (1 - share) / 10_000) ** 0.5
    assert abs(sum(first) / 10_000 - share) < bound
    both = sum(one and other for one, other in zip(first, second, strict=True))
    assert abs(both / 10_000 - share * share) < 5 * (share * share / 10_000) ** 0.5


def test_a_value_has_one_text() -> None:
    """The same entity is the same text, whatever kind of number it came as."""
    assert [text_of(one) for one in (3, 3.0, 0.5, True, "3", -0.0)] == [
        "3",
        "3",
        "0.5",
        "1",
        "3",
        "0",
    ]
    assert text_of(10**400) == "1" + 400 * "0"


def test_without_an_input_the_key_decides(scorer_shop: Shop) -> None:
    """A model that names no input goes by key, a single row without key by its request's id."""
    add(scorer_shop, "2")
    challenge(scorer_shop, "2", 0.5)
    keys = [f"k{number}" for number in range(40)]
    theirs = ["2" if is_challenged("salt", key, 0.5) else "1" for key in keys]
    assert {"1", "2"} == set(theirs)

    async def run() -> None:
        async with scorer_shop.client() as client:
            await until_routed(client, "2", 0.5)
            together = await client.score(MODEL, [ROW] * 40, replace(AT_NOON, keys=keys))
            assert together.versions == theirs
            options = [replace(AT_NOON, request_id=key) for key in keys]
            items = [ScoreItem(MODEL, ROW, one) for one in options]
            alone = [one async for one in client.score_stream(items)]
            assert [one.version for one in alone] == theirs  # type: ignore[union-attr]
            nothing = await client.score(MODEL, [ROW] * 40, replace(AT_NOON, request_id="k0"))
            assert nothing.versions == ["1"] * 40, "many rows of one id are nobody's"

    asyncio.run(run())


def test_who_asks_for_a_version_or_channel_gets_it(scorer_shop: Shop) -> None:
    """Nothing is assigned then, and the log says whose version it is but not whose row."""
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3")
    challenge(scorer_shop, "3", 1.0)

    async def run() -> None:
        async with scorer_shop.client() as client:
            await until_routed(client, "3", 1.0)
            assert (await client.score(MODEL, ROW, AT_NOON)).channels == ["challenger"]
            for number, options in enumerate(
                (ScoreOptions(version="2"), ScoreOptions(channel="champion"))
            ):
                options = replace(options, request_id=f"asked-{number}")
                answer = await client.score(MODEL, ROW, options)
                assert (answer.version, answer.channels) == ("2", [""])
            about = await client.model(MODEL)
            assert (about.task, about.assign_by, about.version) == ("binary", "card", "2")

    asyncio.run(run())
    found = {one.request_id: one for one in records(scorer_shop)}
    assert [found[f"asked-{number}"].channel for number in (0, 1)] == ["", "champion"]
    assert [found[f"asked-{number}"].rows[0].channel for number in (0, 1)] == ["", ""]


def test_a_challenger_that_cannot_be_loaded_leaves_its_rows_to_the_champion(
    scorer_shop: Shop,
) -> None:
    """They are answered, counted and told once; the row still says whose it is."""
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3")
    file = scorer_shop.repository.root / MODEL / "3" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1])
    challenge(scorer_shop, "3", 1.0)
    (port,) = free_ports(1)

    async def run() -> None:
        address = f"127.0.0.1:{port}"
        async with scorer_shop.client(metrics_address=address) as client:
            with capture_logs() as logs:
                answers = [await client.score(MODEL, [ROW] * 3, AT_NOON) for _ in range(4)]
            for answer in answers:
                assert (answer.version, answer.versions) == ("2", ["2"] * 3)
                assert answer.channels == ["challenger"] * 3
                assert answer.scores == [answers[0].scores[0]] * 3
            assert [one["event"] for one in logs if "challenger" in one["event"]] == [
                "challenger_cannot_score"
            ]
            page = await asyncio.to_thread(Page, address)
            assert page.total("headwater_scorer_challenger_fallback_rows_total") == 12
            assert page.total("headwater_scorer_rows_total", channel="champion") == 12

    asyncio.run(run())
    assert {one.channel for one in records(scorer_shop)} == {"champion"}
    assert {row.channel for one in records(scorer_shop) for row in one.rows} == {"challenger"}


def test_a_challenger_that_fails_at_a_row_leaves_it_to_the_champion(scorer_shop: Shop) -> None:
    """A challenger that needs what the caller does not give, or gives infinity, harms nobody."""
    assign_by(scorer_shop, "card")
    more = VectorField("coupon", "request", "float64", 0.0)
    fields = (*SCHEMA.fields[:5], more)
    add(scorer_shop, "3", FeatureSchema(SCHEMA.project, fields))
    challenge(scorer_shop, "3", 1.0)

    async def run() -> None:
        async with scorer_shop.client() as client:
            await until_routed(client, "3", 1.0)
            answer = await client.score(MODEL, [ROW, ROW], AT_NOON)
            assert answer.versions == ["2", "2"]
            with pytest.raises(grpc.aio.AioRpcError, match=r"rows\[1\]: input 'items'"):
                await client.score(MODEL, [ROW, {**ROW, "items": 1.5}], AT_NOON)

    with capture_logs() as logs:
        asyncio.run(run())
    told = [one for one in logs if one["event"] == "challenger_cannot_score"]
    assert ["coupon" in one["reason"] for one in told] == [True]


def test_a_challenger_may_see_other_features(scorer_shop: Shop) -> None:
    """It reads its own vector of the same rows, also if it takes fewer inputs."""
    assign_by(scorer_shop, "card")
    fields = (SCHEMA.fields[0], *SCHEMA.fields[2:5])
    add(scorer_shop, "3", FeatureSchema(SCHEMA.project, fields))
    challenge(scorer_shop, "3", 0.5)

    async def run() -> None:
        async with scorer_shop.client() as client:
            await until_routed(client, "3", 0.5)
            rows = rows_of(range(30))
            options = replace(AT_NOON, include_features=True)
            answer = await client.score(MODEL, rows, options)
            assert set(answer.versions) == {"2", "3"}
            widths = {"2": len(SCHEMA.fields), "3": len(fields)}
            assert [len(one) for one in answer.features] == [widths[v] for v in answer.versions]
            pinned = {
                version: await client.score(MODEL, rows, replace(options, channel=channel))
                for version, channel in (("2", "champion"),)
            }
            for number, version in enumerate(answer.versions):
                if version == "2":
                    assert answer.features[number] == pinned["2"].features[number]
            bad: list[dict[str, Scalar]] = [*rows[:-1], {**rows[-1], "amount": "much"}]
            with pytest.raises(grpc.aio.AioRpcError, match=r"rows\[29\]: input 'amount'"):
                await client.score(MODEL, bad, AT_NOON)

    asyncio.run(run())


def test_a_challenger_of_another_task_gets_nothing(scorer_shop: Shop) -> None:
    """Its scores would be of another kind: the champion answers, and the process says why."""
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3", task="regression")
    challenge(scorer_shop, "3", 1.0)

    async def run() -> None:
        async with scorer_shop.client() as client:
            await until_routed(client, "3", 1.0)
            assert (await client.score(MODEL, ROW, AT_NOON)).versions == ["2"]

    with capture_logs() as logs:
        asyncio.run(run())
    assert any("its task is regression" in str(one.get("reason")) for one in logs)


def test_a_rollback_is_served_soon(
    scorer_shop: Shop, record_property: Callable[[str, object], None]
) -> None:
    """With the default interval a change of channels is followed under load; no answer fails.

    How long it took is in the report (``--junit-xml``).
    """
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3")
    challenge(scorer_shop, "3", 1.0)
    repository = scorer_shop.repository
    took: dict[str, float] = {}

    async def run() -> None:
        async with scorer_shop.client(model_poll_seconds=0.2) as client:
            await until_routed(client, "3", 1.0)
            stop = asyncio.Event()

            async def load() -> None:
                while not stop.is_set():
                    await client.score(MODEL, [ROW] * 4, AT_NOON)

            async def served(name: str, version: str) -> None:
                begun = time.monotonic()
                async with asyncio.timeout(30):
                    while (await client.score(MODEL, ROW, AT_NOON)).version != version:
                        pass
                took[name] = time.monotonic() - begun

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load())
                await asyncio.to_thread(repository.set_share, MODEL, 0.0, None, "r", "test", 0)
                await served("challenger", "2")
                await asyncio.to_thread(repository.promote, MODEL, "3", "r", "test", 0)
                await served("promoted", "3")
                await asyncio.to_thread(repository.rollback, MODEL, "r", "test", 0)
                await served("champion", "2")
                stop.set()

    asyncio.run(run())
    for name, seconds in took.items():
        record_property(f"{name}_seconds", seconds)


def test_scores_are_those_of_the_version_named(scorer_shop: Shop) -> None:
    """Each row's score is what its version gives, computed on its own."""
    assign_by(scorer_shop, "items")
    add(scorer_shop, "3")
    challenge(scorer_shop, "3", 0.5)

    async def run() -> None:
        async with scorer_shop.client() as client:
            await until_routed(client, "3", 0.5)
            rows: list[dict[str, Scalar]] = [{**ROW, "items": items} for items in range(20)]
            answer = await client.score(MODEL, rows, AT_NOON)
            assert set(answer.versions) == {"2", "3"}
            for items, version in enumerate(answer.versions):
                vector = [VECTOR[0], float(items), *VECTOR[2:]]
                expected = linear_score(vector, bias_of(version))
                assert answer.scores[items] == pytest.approx(expected, abs=1e-15)
            nobody = await client.score(MODEL, {**ROW, "items": None}, AT_NOON)
            assert nobody.versions == ["2"], "an entity that is not known is the champion's"

    asyncio.run(run())
    assert schema_with(0) == SCHEMA
