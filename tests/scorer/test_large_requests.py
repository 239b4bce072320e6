"""Large requests past the bounds are refused before they are read, over streams as well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from scorer.client import ScoreOptions, score_request
from scorer.large_requests import LARGE_BYTES, Unread, outline_of
from scorer.server import running
from scorer.v1 import scorer_pb2
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop
from tests.scorer.test_batcher import WatchedReader

AT_NOON = ScoreOptions(event_time_us=NOON_US, request_id="r-1")
REQUEST = score_request(MODEL, [ROW] * 1_000, AT_NOON).SerializeToString()
# Rows that are no messages: whoever reads them knows that the request is wrong.
BROKEN_ROW = b"\x12\x64" + b"\xff" * 100
REFUSED, WRONG = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT


async def status(call: Awaitable[Any]) -> grpc.StatusCode:
    """How a call ends."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def while_one_is_under_way(
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[grpc.aio.Channel], Awaitable[None]],
    **settings: object,
) -> None:
    """Run ``use`` while a request of 1,000 rows waits for the store; then that is answered."""
    reader = WatchedReader(shop)
    monkeypatch.setattr("scorer.server.open_online_store", lambda _: reader)

    async def run() -> None:
        async with (
            running(shop.settings(**settings), shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            reader.gate.clear()
            first = asyncio.ensure_future(status(score(channel, REQUEST)))
            await reader.asked(1)
            await use(channel)
            reader.gate.set()
            assert await first is grpc.StatusCode.OK
            assert await status(score(channel, REQUEST)) is grpc.StatusCode.OK
            assert await status(score(channel, BROKEN_ROW * 2_000)) is WRONG

    asyncio.run(run())


def score(channel: grpc.aio.Channel, request: bytes) -> Awaitable[bytes]:
    """A call of ``Score`` with these bytes."""
    call: Any = channel.unary_unary("/scorer.v1.ScorerService/Score")
    return call(request)  # type: ignore[no-any-return]


def test_rows_that_find_no_room_are_not_read(
    scorer_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen rows for each request in flight: past that nobody looks at more than their number."""

    async def use(channel: grpc.aio.Channel) -> None:
        assert await status(score(channel, BROKEN_ROW * 700)) is REFUSED
        # It would still fit, so it is read, and found to be wrong.
        assert await status(score(channel, BROKEN_ROW * 550)) is WRONG

    while_one_is_under_way(scorer_shop, monkeypatch, use, in_flight_max=100)


def test_bytes_that_find_no_room_are_not_read(
    scorer_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on bytes is the setting's; small requests do not count."""
    many = len(REQUEST) + 2 * LARGE_BYTES

    async def use(channel: grpc.aio.Channel) -> None:
        broken = b"\xff" * (2 * LARGE_BYTES + 1)
        assert await status(score(channel, broken)) is REFUSED
        assert await status(score(channel, broken[1:])) is WRONG
        assert await status(score(channel, broken[:LARGE_BYTES])) is WRONG

    while_one_is_under_way(scorer_shop, monkeypatch, use, in_flight_bytes_max=many)


def test_large_requests_of_a_stream_are_refused_one_by_one(
    scorer_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream goes on after a refused request, and one that was read has its id in the answer."""

    async def use(channel: grpc.aio.Channel) -> None:
        method: Any = channel.stream_stream("/scorer.v1.ScorerService/ScoreStream")
        wrong = score_request(MODEL, [{**ROW, "amount": "x"}] * 550, AT_NOON).SerializeToString()
        answers = [
            scorer_pb2.ScoreStreamResponse.FromString(one)
            async for one in method(iter([REQUEST, wrong]))
        ]
        assert [one.failure.code for one in answers] == [REFUSED.value[0], WRONG.value[0]]
        assert answers[1].request_id == "r-1"

    while_one_is_under_way(scorer_shop, monkeypatch, use, in_flight_max=100)


def test_the_outline_counts_the_rows() -> None:
    """Rows are counted for every request that has them, and for no other."""
    features = scorer_pb2.GetFeaturesRequest(feature_service="trip")
    for _ in range(3):
        features.rows.add().key = "a"
    for message, rows in (
        (scorer_pb2.ScoreRequest.FromString(REQUEST), 1_000),
        (features, 3),
        (scorer_pb2.GetModelRequest(model=MODEL), 0),
    ):
        unread = Unread(message.SerializeToString(), len, outline_of(message.DESCRIPTOR))
        assert unread.rows() == rows
