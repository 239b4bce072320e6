"""A real gRPC server with two methods, whose work the test gives: for what goes on around calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import grpc

from scorer.callers import Callers, OpenDoor
from scorer.calls import Call, Calls, Context, Witness
from scorer.metrics import ScorerMetrics
from scorer.streams import Streams
from scorer.v1 import scorer_pb2

METHOD = "scorer.v1.ScorerService/Score"
STREAM = "scorer.v1.ScorerService/ScoreStream"
Work = Callable[[scorer_pb2.ScoreRequest, Call], Awaitable[scorer_pb2.ScoreResponse]]


class Score:
    """A client of both methods: called itself it is ``Score``.

    Attributes:
        port: of the server, on 127.0.0.1.
    """

    def __init__(self, channel: grpc.aio.Channel, port: int) -> None:
        """Call over that channel."""
        self.port = port
        self._score = channel.unary_unary(
            f"/{METHOD}",
            scorer_pb2.ScoreRequest.SerializeToString,
            scorer_pb2.ScoreResponse.FromString,
        )
        self._stream = channel.stream_stream(
            f"/{STREAM}",
            scorer_pb2.ScoreRequest.SerializeToString,
            scorer_pb2.ScoreStreamResponse.FromString,
        )

    async def __call__(
        self,
        request: scorer_pb2.ScoreRequest,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> scorer_pb2.ScoreResponse:
        """One call."""
        return await self._score(request, metadata=tuple(metadata))

    async def stream(
        self, *requests: scorer_pb2.ScoreRequest
    ) -> list[scorer_pb2.ScoreStreamResponse]:
        """One stream of these requests, and all its answers."""
        return [answer async for answer in self._stream(iter(requests))]


@asynccontextmanager
async def small_server(
    work: Work,
    *witnesses: Witness,
    metrics: ScorerMetrics | None = None,
    callers: Callers | None = None,
) -> AsyncIterator[Score]:
    """A server as long as the context; gives a client."""
    calls = Calls(metrics or ScorerMetrics(), callers or OpenDoor(), 5.0, witnesses)

    async def answer(
        request: scorer_pb2.ScoreRequest, context: Context
    ) -> scorer_pb2.ScoreResponse:
        return await calls.answer(METHOD, work, request, context)

    streams = Streams(calls, 8)

    async def answer_all(
        requests: AsyncIterator[scorer_pb2.ScoreRequest], context: Context
    ) -> AsyncIterator[scorer_pb2.ScoreStreamResponse]:
        async for one in streams.answer(STREAM, work, requests, context):
            yield one

    handlers = {
        "Score": grpc.unary_unary_rpc_method_handler(
            answer,
            scorer_pb2.ScoreRequest.FromString,
            scorer_pb2.ScoreResponse.SerializeToString,
        ),
        "ScoreStream": grpc.stream_stream_rpc_method_handler(
            answer_all,
            scorer_pb2.ScoreRequest.FromString,
            scorer_pb2.ScoreStreamResponse.SerializeToString,
        ),
    }
    service = grpc.method_handlers_generic_handler("scorer.v1.ScorerService", handlers)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Score(channel, port)
            # A client has its answer a moment before the server has done with the call.
            await calls.quiet(0.001, 5.0)
    finally:
        await server.stop(None)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds, at most ten seconds."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never came: {what}")
