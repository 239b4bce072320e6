"""A real gRPC server with one method, whose work the test gives: for what goes on around calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc

from scorer.callers import Callers, OpenDoor
from scorer.calls import Call, Calls, Context, Witness
from scorer.metrics import ScorerMetrics
from scorer.v1 import scorer_pb2

METHOD = "scorer.v1.ScorerService/Score"
Work = Callable[[scorer_pb2.ScoreRequest, Call], Awaitable[scorer_pb2.ScoreResponse]]
Score = Callable[..., Awaitable[scorer_pb2.ScoreResponse]]


@asynccontextmanager
async def small_server(
    work: Work,
    *witnesses: Witness,
    metrics: ScorerMetrics | None = None,
    callers: Callers | None = None,
) -> AsyncIterator[Score]:
    """A server as long as the context; gives ``Score`` of a client."""
    calls = Calls(metrics or ScorerMetrics(), callers or OpenDoor(), 5.0, witnesses)

    async def answer(
        request: scorer_pb2.ScoreRequest, context: Context
    ) -> scorer_pb2.ScoreResponse:
        return await calls.answer(METHOD, work, request, context)

    service, _, name = METHOD.partition("/")
    handler = grpc.unary_unary_rpc_method_handler(
        answer,
        scorer_pb2.ScoreRequest.FromString,
        scorer_pb2.ScoreResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {name: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.unary_unary(
                f"/{METHOD}",
                scorer_pb2.ScoreRequest.SerializeToString,
                scorer_pb2.ScoreResponse.FromString,
            )
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
