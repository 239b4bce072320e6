"""A caller's deadline is kept by gRPC: it cancels the work, whatever the caller itself does."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest

from scorer.calls import Call, Context
from scorer.metrics import ScorerMetrics
from scorer.v1 import scorer_pb2
from tests.scorer.small_server import METHOD, STREAM, small_server, until

DEADLINE_MS = 200
SERVICE = METHOD.partition("/")[0]
CONNECTION_STREAMS = {METHOD: 1, STREAM: 3}


class Ended:
    """A witness that keeps what ended, and how."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self.calls: list[tuple[str, str]] = []

    def begun(self, call: Call, context: Context) -> None:
        """Not of interest."""

    def ended(self, call: Call) -> None:
        """Keep method and code."""
        self.calls.append((call.method, call.code.name))


def _frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    head = bytes((kind, flags)) + stream.to_bytes(4, "big")
    return len(content).to_bytes(3, "big") + head + content


def _call(method: str) -> bytes:
    """A request of HTTP/2 as it goes over the wire, with a deadline that only its header tells."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{method}",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        "grpc-timeout": f"{DEADLINE_MS}m",
    }
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    data = scorer_pb2.ScoreRequest(model="fraud").SerializeToString()
    message = b"\0" + len(data).to_bytes(4, "big") + data
    stream = CONNECTION_STREAMS[method]
    # The headers are all there; a stream's requests have no end.
    return _frame(1, 4, stream, block) + _frame(0, method == METHOD, stream, message)


@pytest.mark.parametrize("method", [METHOD, STREAM])
def test_work_ends_at_the_deadline_of_a_caller_that_waits_on(method: str) -> None:
    """The work is cancelled in time, and log and metrics say DEADLINE_EXCEEDED of it."""
    metrics, ended = ScorerMetrics(), Ended()

    async def run() -> float:
        cancelled_at: list[float] = []

        async def work(request: scorer_pb2.ScoreRequest, call: Call) -> scorer_pb2.ScoreResponse:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled_at.append(time.monotonic())
                raise
            return scorer_pb2.ScoreResponse()

        async with small_server(work, ended, metrics=metrics) as score:
            _, writer = await asyncio.open_connection("127.0.0.1", score.port)
            began = time.monotonic()
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0) + _call(method))
            await until(lambda: bool(cancelled_at), "a cancelled call")
            await until(lambda: bool(ended.calls), "the end of the call")
            writer.close()
        return cancelled_at[0] - began

    assert DEADLINE_MS / 1000 * 0.9 <= asyncio.run(run()) < 5
    code = grpc.StatusCode.DEADLINE_EXCEEDED.name
    assert ended.calls == [(method, code)]
    labels = {
        "grpc_type": "unary" if method == METHOD else "bidi_stream",
        "grpc_service": SERVICE,
        "grpc_method": method.partition("/")[2],
        "grpc_code": code,
    }
    assert metrics.registry.get_sample_value("grpc_server_handled_total", labels) == 1
