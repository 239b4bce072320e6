"""An empty ``grpc.aio`` server: takes the scorer's requests apart and gives a ready answer.

    python -m benchmarks.scorer.echo ANSWER LOOP

It is what a Python server of these messages costs before it does anything. ANSWER is a file with a
serialized ``ScoreResponse``, which is built once and serialized for each call; LOOP is ``asyncio``,
Python's own event loop, or ``uvloop``, on which the scorer runs.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop

from scorer.v1 import scorer_pb2

Score = Callable[[scorer_pb2.ScoreRequest, Any], Awaitable[scorer_pb2.ScoreResponse]]


async def listen(score: Score) -> None:
    """Serve that one method on a free port until the process is ended."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        score,
        request_deserializer=scorer_pb2.ScoreRequest.FromString,
        response_serializer=scorer_pb2.ScoreResponse.SerializeToString,
    )
    service = scorer_pb2.DESCRIPTOR.services_by_name["ScorerService"].full_name
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Score": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"serving on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def _always(answer: scorer_pb2.ScoreResponse) -> Score:
    async def score(request: scorer_pb2.ScoreRequest, context: Any) -> scorer_pb2.ScoreResponse:
        return answer

    return score


if __name__ == "__main__":
    ready = scorer_pb2.ScoreResponse.FromString(Path(sys.argv[1]).read_bytes())
    run = {"asyncio": asyncio.run, "uvloop": uvloop.run}[sys.argv[2]]
    run(listen(_always(ready)))
