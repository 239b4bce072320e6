"""`GetFeatures` that cannot be answered: wrong requests, callers without a right, no store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from contracts.online_store import RedisConfig
from scorer.redis_reader import RedisReader
from scorer.v1.scorer_pb2 import Row, Value
from tests.scorer.feature_shop import (
    CARD,
    LIMITS,
    TRIP,
    FeatureShop,
    reasons,
    row,
    shop_server,
)
from tests.scorer.shop import MODEL, NOON_US

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
        "no feature service 'trips'; there are: card, elsewhere, trip",
    ),
    "unknown feature": (
        {"features": {"names": ["card_1h:spend"]}, "rows": [row(TRIP)]},
        "NOT_FOUND",
        "no stream feature view has a feature 'card_1h:spend'",
    ),
    "a view of Feast's alone": (
        {"feature_service": "elsewhere", "rows": [row(TRIP)]},
        "NOT_FOUND",
        "'batch_view:income', which no stream feature view stores (views on demand store nothing);"
        " ask for a service without it, or name features in GetFeatures",
    ),
    "unknown model": ({"model": "frauds", "rows": [row(TRIP)]}, "NOT_FOUND", "'frauds'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_by_name(feature_shop: FeatureShop, name: str) -> None:
    """What is wrong in a request ends in its documented status, with a text that names it."""
    request, code, text = BAD[name]

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.get(**request)
            assert caught.value.code().name == code
            assert text in (caught.value.details() or "")

    asyncio.run(run())


def test_a_model_without_champion(feature_shop: FeatureShop) -> None:
    """Of a model that has no champion yet nothing can be read by its name."""
    feature_shop.repository.set_channel(MODEL, "champion", None, "test", "test", 0)

    async def run() -> None:
        async with shop_server(feature_shop) as server:
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
    feature_shop: FeatureShop, request_: dict[str, Any], models: str, allowed: bool
) -> None:
    """A caller with some models reads what their champions read; else cannot tell what exists."""

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            keys = {"card": 42} if request_.get("feature_service") == "card" else TRIP
            ask = server.get(models, rows=[row(keys)], **request_)
            if allowed:
                assert (await ask).names
                return
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(run())


def test_without_the_store_it_is_unavailable(feature_shop: FeatureShop) -> None:
    """A store that is not there is told as UNAVAILABLE, and found again when it is back."""
    hidden = feature_shop.online_path.rename(feature_shop.folder / "hidden.db")

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.get(feature_service="trip", rows=[row(TRIP)])
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            hidden.rename(feature_shop.online_path)
            assert (await server.get(feature_service="trip", rows=[row(TRIP)])).rows

    asyncio.run(run())


def test_broken_bytes_are_told_by_name(feature_shop: FeatureShop) -> None:
    """A cell that cannot be read ends in UNAVAILABLE and the name of its feature."""
    feature_shop.put(CARD, [42], {"town": b"\x12\x7fcut"}, NOON_US)

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            with pytest.raises(grpc.aio.AioRpcError, match="feature card_1h:town") as caught:
                await server.get(feature_service="card", rows=[row({"card": 42})])
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())


class SilentRedis:
    """A server that takes connections and commands, and never answers."""

    def __init__(self) -> None:
        """Not started yet."""
        self.asked = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> RedisReader:
        """Start, and give a reader of it."""
        self._server = await asyncio.start_server(self._swallow, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        config = RedisConfig((("127.0.0.1", port),), is_cluster=False)
        return RedisReader(config, "shop", answer_seconds=60.0)

    def hang_up(self) -> None:
        """End all connections, and take no more."""
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _swallow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while await reader.read(1 << 16):
            self.asked.set()


def test_a_store_that_hangs_is_given_up(feature_shop: FeatureShop) -> None:
    """A read that takes longer than its limit is told as UNAVAILABLE."""

    async def run() -> None:
        redis = SilentRedis()
        limits = replace(LIMITS, read_timeout_seconds=0.05)
        async with shop_server(feature_shop, limits, await redis.start()) as server:
            with pytest.raises(grpc.aio.AioRpcError, match="did not answer within") as caught:
                await server.get(feature_service="trip", rows=[row(TRIP)])
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        redis.hang_up()

    asyncio.run(run())


def test_reads_under_way_are_bounded(feature_shop: FeatureShop) -> None:
    """More reads at one time than the limit are refused at once; one that ends makes room."""

    async def run() -> None:
        redis = SilentRedis()
        limits = replace(LIMITS, in_flight_max=1, read_timeout_seconds=30.0)
        async with shop_server(feature_shop, limits, await redis.start()) as server:
            first = asyncio.ensure_future(server.get(feature_service="trip", rows=[row(TRIP)]))
            await asyncio.wait_for(redis.asked.wait(), 10)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.get(feature_service="trip", rows=[row(TRIP)])
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            # Without a key nothing is read, so nothing is in flight.
            nobody = row(dict.fromkeys(TRIP))
            answer = await server.get(feature_service="trip", rows=[nobody])
            assert reasons(answer) == [["NULL_INPUT"] * 3]
            redis.hang_up()
            for ask in (first, server.get(feature_service="trip", rows=[row(TRIP)])):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ask
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())
