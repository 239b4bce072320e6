"""``GetFeatures``: stored values of any type, why one is not there, and who may read them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from contracts.online_store import RedisConfig
from contracts.plan_file import plan_path
from scorer.applied import AppliedFeatures
from scorer.errors import UnknownFeatureError
from scorer.redis_reader import RedisReader
from scorer.v1.scorer_pb2 import FeatureValue, GetFeaturesResponse, MissingReason, Row, Value
from tests.scorer.feature_shop import CARD, LIMITS, FeatureShop, shop_server
from tests.scorer.shop import MODEL, NOON_US, SCHEMA, TTL_SECONDS

_KINDS = {int: "int64_value", str: "string_value", float: "double_value", bool: "bool_value"}
TRIP: dict[str, Any] = {"card": 42, "origin": "JFK", "dest": "LAX"}


def row(keys: Mapping[str, Any]) -> Row:
    """A row of these entity keys."""
    return Row(
        inputs={
            name: Value(null_value=0) if value is None else Value(**{_KINDS[type(value)]: value})  # type: ignore[arg-type]
            for name, value in keys.items()
        }
    )


def plain(value: FeatureValue) -> Any:
    """The value itself."""
    kind = value.value.WhichOneof("kind")
    assert kind is not None
    return None if kind == "null_value" else getattr(value.value, kind)


def reasons(response: GetFeaturesResponse) -> list[list[str]]:
    """Why values are missing, in words; empty where they are not."""
    names = [name.removeprefix("MISSING_REASON_") for name, _ in MissingReason.items()]
    return [[names[one.missing] if one.missing else "" for one in r.values] for r in response.rows]


def stamp(time_us: int) -> Timestamp:
    """A moment as a message."""
    time = Timestamp()
    time.FromMicroseconds(time_us)
    return time


@pytest.fixture
def shop(tmp_path: Path) -> FeatureShop:
    """A shop whose features are applied, with one card and one route."""
    shop = FeatureShop(tmp_path)
    shop.create()
    shop.apply()
    shop.put(CARD, [42], {"town": "Zürich", "gift": True}, NOON_US)
    return shop


def test_a_service_has_its_features_in_order_and_in_their_types(shop: FeatureShop) -> None:
    """A feature service gives a column for each of its features, with value, event time and age."""

    async def run() -> None:
        async with shop_server(shop) as server:
            answer = await server.get(
                feature_service="card", rows=[row({"card": 42})], request_id="r-1"
            )
            assert answer.request_id == "r-1"
            assert list(answer.names) == [
                f"card_1h:{name}" for name in ("spent", "visits", "town", "gift")
            ]
            values = answer.rows[0].values
            found = [plain(value) for value in values]
            assert found == [10.25, 4, "Zürich", True]
            assert [type(one) for one in found] == [float, int, str, bool]
            for value in values:
                assert value.event_time.ToMicroseconds() == NOON_US
                assert value.age_seconds == 30.0
                assert not value.missing
            (call,) = server.ended
            assert (call.request_id, call.rows, call.oldest_age_seconds) == ("r-1", 1, 30.0)

    asyncio.run(run())


def test_several_views_and_rows(shop: FeatureShop) -> None:
    """Features of several views come in the order asked for, and each row has its own entities."""
    shop.put(CARD, [7], {"spent": 1.5, "visits": 300}, NOON_US + 1)
    rows = [row(TRIP), row({**TRIP, "card": 7}), row(TRIP)]

    async def run() -> None:
        async with shop_server(shop) as server:
            answer = await server.get(feature_service="trip", rows=rows)
            assert list(answer.names) == ["route_1h:delay", "card_1h:visits", "card_1h:spent"]
            found = [[plain(value) for value in one.values] for one in answer.rows]
            assert found == [[7.5, 4, 10.25], [7.5, 300, 1.5], [7.5, 4, 10.25]]
            times = [value.event_time.ToMicroseconds() for value in answer.rows[1].values]
            assert times == [NOON_US, NOON_US + 1, NOON_US + 1]
            named = await server.get(
                features={"names": ["card_1h:spent", "route_1h:delay"]}, rows=rows
            )
            assert [[plain(v) for v in one.values] for one in named.rows] == [
                [10.25, 7.5],
                [1.5, 7.5],
                [10.25, 7.5],
            ]

    asyncio.run(run())


def test_a_model_gives_what_its_champion_reads(shop: FeatureShop) -> None:
    """Of a model come the stored features of its vector, in its order, without a plan file too."""
    plan_path(shop.folder).unlink()

    async def run() -> None:
        async with shop_server(shop) as server:
            answer = await server.get(model=MODEL, rows=[row(TRIP)])
            stored = [field.name for field in SCHEMA.fields if field.kind == "feature"]
            assert list(answer.names) == stored
            assert [plain(value) for value in answer.rows[0].values] == [10.25, 4, 7.5]
            (call,) = server.ended
            assert (call.model, call.version) == (MODEL, "1")

    asyncio.run(run())


def test_why_a_value_is_missing(shop: FeatureShop) -> None:
    """Null key, no row, null value and NaN each have their reason; the row's age is told."""
    shop.put(CARD, [1], {"spent": None, "visits": 2, "town": b"\x98\x01\x00"}, NOON_US)
    shop.put(CARD, [1], {"gift": b"\x29" + b"\x00" * 6 + b"\xf8\x7f"}, NOON_US)
    rows = [row({"card": None}), row({"card": 99}), row({"card": 1})]

    async def run() -> None:
        async with shop_server(shop) as server:
            answer = await server.get(feature_service="card", rows=rows)
            assert reasons(answer) == [
                ["NULL_INPUT"] * 4,
                ["NO_ROW"] * 4,
                ["NULL_VALUE", "", "NULL_VALUE", "NULL_VALUE"],
            ]
            for number, one in enumerate(answer.rows):
                for place, value in enumerate(one.values):
                    assert (plain(value) is None) == bool(value.missing)
                    assert value.HasField("event_time") == (number == 2), place
                    assert value.HasField("age_seconds") == (number == 2), place

    asyncio.run(run())


@pytest.mark.parametrize(("late_us", "reason"), [(0, ""), (1, "EXPIRED")])
def test_the_moment_of_the_read_decides_what_has_expired(
    shop: FeatureShop, late_us: int, reason: str
) -> None:
    """A row as old as its view's ttl counts; one microsecond older it is not shown, but its age."""
    at_us = NOON_US + round(TTL_SECONDS * 1e6) + late_us

    async def run() -> None:
        async with shop_server(shop) as server:
            answer = await server.get(
                feature_service="trip", rows=[row(TRIP)], event_time=stamp(at_us)
            )
            assert reasons(answer) == [[reason, "", ""]]
            delay, visits, _ = answer.rows[0].values
            assert plain(delay) == (None if reason else 7.5)
            assert delay.event_time == stamp(NOON_US)
            assert delay.age_seconds == TTL_SECONDS + late_us / 1e6
            assert plain(visits) == 4

    asyncio.run(run())


def test_numbers_come_in_the_type_of_the_view(shop: FeatureShop) -> None:
    """What Feast wrote as another kind of number comes in the type that the view has."""
    cells = {"spent": b"\x20\x03", "visits": b"\x35\x00\x00\x40\x40", "gift": b"\x20\x01"}
    shop.put(CARD, [5], cells, NOON_US)

    async def run() -> None:
        async with shop_server(shop) as server:
            answer = await server.get(
                features={"names": [f"card_1h:{name}" for name in cells]}, rows=[row({"card": 5})]
            )
            found = [plain(value) for value in answer.rows[0].values]
            assert found == [3.0, 3, True]
            assert [type(one) for one in found] == [float, int, bool]

    asyncio.run(run())


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no source": ({"rows": [row(TRIP)]}, "INVALID_ARGUMENT", "no source"),
    "no rows": ({"feature_service": "trip"}, "INVALID_ARGUMENT", "no rows"),
    "too many rows": (
        {"feature_service": "trip", "rows": [row(TRIP)] * 51},
        "INVALID_ARGUMENT",
        "51 rows, at most 50",
    ),
    "key missing": (
        {"feature_service": "trip", "rows": [row(TRIP), row({"card": 1, "dest": "LAX"})]},
        "INVALID_ARGUMENT",
        "rows[1]: entity key 'origin' (string) is missing",
    ),
    "key unknown": (
        {"feature_service": "card", "rows": [row(TRIP)]},
        "INVALID_ARGUMENT",
        "rows[0]: unknown entity key 'dest'; those of these features are: card",
    ),
    "request field": (
        {"model": MODEL, "rows": [row({**TRIP, "amount": 2.5})]},
        "INVALID_ARGUMENT",
        "unknown entity key 'amount'",
    ),
    "text for a number": (
        {"feature_service": "card", "rows": [row({"card": "42"})]},
        "INVALID_ARGUMENT",
        "entity key 'card' must be int64, not string",
    ),
    "bool for a number": (
        {"feature_service": "card", "rows": [row({"card": True})]},
        "INVALID_ARGUMENT",
        "must be int64, not bool",
    ),
    "double for a number": (
        {"feature_service": "card", "rows": [row({"card": 42.0})]},
        "INVALID_ARGUMENT",
        "must be int64, not float64",
    ),
    "no kind": (
        {"feature_service": "card", "rows": [Row(inputs={"card": Value()})]},
        "INVALID_ARGUMENT",
        "'card' has no value",
    ),
    "time": (
        {
            "feature_service": "card",
            "rows": [row({"card": 42})],
            "event_time": Timestamp(seconds=2**62),
        },
        "INVALID_ARGUMENT",
        "not a valid Timestamp",
    ),
    "no names": ({"features": {}, "rows": [row(TRIP)]}, "INVALID_ARGUMENT", "no features"),
    "a name twice": (
        {"features": {"names": ["card_1h:spent"] * 2}, "rows": [row({"card": 42})]},
        "INVALID_ARGUMENT",
        "'card_1h:spent' is named twice",
    ),
    "no model named": ({"model": "", "rows": [row(TRIP)]}, "INVALID_ARGUMENT", "no model named"),
    "unknown service": (
        {"feature_service": "trips", "rows": [row(TRIP)]},
        "NOT_FOUND",
        "unknown feature service 'trips'; there are: card, elsewhere, trip",
    ),
    "unknown feature": (
        {"features": {"names": ["card_1h:spend"]}, "rows": [row(TRIP)]},
        "NOT_FOUND",
        "no stream feature view has a feature 'card_1h:spend'",
    ),
    "a view of Feast's alone": (
        {"feature_service": "elsewhere", "rows": [row(TRIP)]},
        "NOT_FOUND",
        "'batch_view:income'",
    ),
    "unknown model": ({"model": "frauds", "rows": [row(TRIP)]}, "NOT_FOUND", "'frauds'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_by_name(shop: FeatureShop, name: str) -> None:
    """What is wrong in a request ends in its documented status, with a text that names it."""
    request, code, text = BAD[name]

    async def run() -> None:
        async with shop_server(shop) as server:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.get(**request)
            assert caught.value.code().name == code
            assert text in (caught.value.details() or "")

    asyncio.run(run())


def test_a_model_without_champion(shop: FeatureShop) -> None:
    """Of a model that has no champion yet nothing can be read by its name."""
    shop.repository.set_channel(MODEL, "champion", None, "test", "test", 0)

    async def run() -> None:
        async with shop_server(shop) as server:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.get(model=MODEL, rows=[row(TRIP)])
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION

    asyncio.run(run())


@pytest.mark.parametrize(
    ("request_", "models", "allowed"),
    [
        ({"model": MODEL}, MODEL, True),
        ({"model": MODEL}, "other", False),
        ({"feature_service": "trip"}, MODEL, True),
        ({"feature_service": "trip"}, f"{MODEL},other", True),
        ({"feature_service": "trip"}, "other", False),
        ({"feature_service": "card"}, MODEL, False),
        ({"feature_service": "nothing"}, MODEL, False),
        ({"features": {"names": ["route_1h:delay", "card_1h:spent"]}}, MODEL, True),
        ({"features": {"names": ["card_1h:spent", "card_1h:town"]}}, MODEL, False),
        ({"features": {"names": ["card_1h:nothing"]}}, MODEL, False),
        ({"features": {"names": ["card_1h:spent"]}}, "", False),
    ],
)
def test_callers_read_what_their_models_read(
    shop: FeatureShop, request_: dict[str, Any], models: str, allowed: bool
) -> None:
    """A caller with some models reads what their champions read; else cannot tell what exists."""

    async def run() -> None:
        async with shop_server(shop) as server:
            keys = {"card": 42} if request_.get("feature_service") == "card" else TRIP
            ask = server.get(models, rows=[row(keys)], **request_)
            if allowed:
                assert (await ask).names
                return
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(run())


def test_apply_is_noticed_and_a_broken_plan_is_not_taken(shop: FeatureShop) -> None:
    """What is applied while the server runs is served; a broken file changes nothing."""
    plan_path(shop.folder).unlink()

    async def run() -> None:
        async with shop_server(shop) as server:

            async def names() -> list[str]:
                answer = await server.get(feature_service="new", rows=[row({"card": 42})])
                return list(answer.names)

            with pytest.raises(grpc.aio.AioRpcError, match="run `headwater apply`") as caught:
                await names()
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            shop.apply(services={"new": [("card_1h", "spent")]})
            assert await names() == ["card_1h:spent"]
            plan_path(shop.folder).write_text('{"format": 1')
            assert await names() == ["card_1h:spent"]
            plan_path(shop.folder).unlink()
            assert await names() == ["card_1h:spent"]
            shop.apply(services={"new": [("card_1h", "gift")]})
            assert await names() == ["card_1h:gift"]

    asyncio.run(run())


def test_the_plan_file_is_looked_at_once_in_a_while(shop: FeatureShop) -> None:
    """Between two looks nothing is read; troubles are told in the log once."""
    now = [0.0]
    applied = AppliedFeatures(plan_path(shop.folder), lambda: now[0], look_seconds=1.0)

    async def run() -> None:
        first = await applied.catalogue()
        shop.apply(views=[CARD])
        now[0] = 0.999
        assert await applied.catalogue() is first
        now[0] = 1.0
        second = await applied.catalogue()
        assert second is not first
        assert second.join_keys == {"card"}
        now[0] = 2.0
        assert await applied.catalogue() is second

    asyncio.run(run())


def test_callers_of_the_first_moment_wait_for_the_first_look(shop: FeatureShop) -> None:
    """Those who come while the plan is read for the first time get it, all the same one."""
    applied = AppliedFeatures(plan_path(shop.folder), lambda: 0.0)

    async def run() -> None:
        found = await asyncio.gather(*(applied.catalogue() for _ in range(5)))
        assert len(set(map(id, found))) == 1

    asyncio.run(run())


def test_nothing_applied_is_looked_for_again_later(tmp_path: Path) -> None:
    """Where nothing is applied each call is told so, and the file is found at the next look."""
    now = [0.0]
    shop = FeatureShop(tmp_path)
    applied = AppliedFeatures(plan_path(tmp_path), lambda: now[0])

    async def run() -> None:
        with pytest.raises(UnknownFeatureError):
            await applied.catalogue()
        shop.apply()
        with pytest.raises(UnknownFeatureError):
            await applied.catalogue()
        now[0] = 1.0
        assert (await applied.catalogue()).has_service("trip")

    asyncio.run(run())


def test_without_the_store_it_is_unavailable(shop: FeatureShop) -> None:
    """A store that is not there is told as UNAVAILABLE, and found again when it is back."""
    hidden = shop.online_path.rename(shop.folder / "hidden.db")

    async def run() -> None:
        async with shop_server(shop) as server:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.get(feature_service="trip", rows=[row(TRIP)])
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            hidden.rename(shop.online_path)
            assert (await server.get(feature_service="trip", rows=[row(TRIP)])).rows

    asyncio.run(run())


def test_broken_bytes_are_told_by_name(shop: FeatureShop) -> None:
    """A cell that cannot be read ends in UNAVAILABLE and the name of its feature."""
    shop.put(CARD, [42], {"town": b"\x12\x7fcut"}, NOON_US)

    async def run() -> None:
        async with shop_server(shop) as server:
            with pytest.raises(grpc.aio.AioRpcError, match="feature card_1h:town") as caught:
                await server.get(feature_service="card", rows=[row({"card": 42})])
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())


def hanging(use: Callable[[RedisReader, asyncio.Event], Any]) -> None:
    """Run with a reader of a server that takes connections and commands, and never answers."""

    async def run() -> None:
        asked = asyncio.Event()

        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.read(1 << 16):
                    asked.set()
            finally:
                writer.close()

        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        config = RedisConfig((("127.0.0.1", port),), is_cluster=False)
        try:
            await use(RedisReader(config, "shop", answer_seconds=60.0), asked)
        finally:
            server.close()

    asyncio.run(run())


def test_a_store_that_hangs_is_given_up(shop: FeatureShop) -> None:
    """A read that takes longer than its limit is told as UNAVAILABLE."""

    async def use(reader: RedisReader, asked: asyncio.Event) -> None:
        limits = replace(LIMITS, read_timeout_seconds=0.05)
        async with shop_server(shop, limits, reader) as server:
            with pytest.raises(grpc.aio.AioRpcError, match="did not answer within") as caught:
                await server.get(feature_service="trip", rows=[row(TRIP)])
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    hanging(use)


def test_reads_under_way_are_bounded(shop: FeatureShop) -> None:
    """More reads at one time than the limit are refused at once; one that ends makes room."""

    async def use(reader: RedisReader, asked: asyncio.Event) -> None:
        limits = replace(LIMITS, in_flight_max=1, read_timeout_seconds=30.0)
        async with shop_server(shop, limits, reader) as server:
            first = asyncio.ensure_future(server.get(feature_service="trip", rows=[row(TRIP)]))
            await asyncio.wait_for(asked.wait(), 10)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.get(feature_service="trip", rows=[row(TRIP)])
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            # Without a key nothing is read, so nothing is in flight.
            nobody = row(dict.fromkeys(TRIP))
            answer = await server.get(feature_service="trip", rows=[nobody])
            assert reasons(answer) == [["NULL_INPUT"] * 3]
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            async with asyncio.timeout(10):
                while True:
                    # One that is let in hangs until its deadline.
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await server.get(
                            feature_service="trip", rows=[row(TRIP)], timeout_seconds=0.1
                        )
                    if caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                        break

    hanging(use)


def test_a_plan_of_another_layout_is_refused(shop: FeatureShop) -> None:
    """A plan file of a layout to come is not half understood."""
    path = plan_path(shop.folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    applied = AppliedFeatures(path, lambda: 0.0)
    with pytest.raises(UnknownFeatureError):
        asyncio.run(applied.catalogue())
