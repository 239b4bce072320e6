"""The client of ``make bench-scorer``, against a real ``grpc.aio`` server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks.scorer.checks import Always, ScoresOf
from benchmarks.scorer.grpc_wire import WireError
from benchmarks.scorer.load import Client, Load, Target
from scorer.v1 import scorer_pb2

PATH = "/bench.Echo/Ask"
REFUSED = b"refused"
SHORT = Load(in_flight=8, seconds=0.3, warm_up_seconds=0.0)


async def _echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    if request == REFUSED:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not today")
    return request


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """An echo of bytes."""
    loop = asyncio.new_event_loop()
    server: Any = None

    async def start() -> int:
        nonlocal server
        server = grpc.aio.server()
        handler: Any = grpc.unary_unary_rpc_method_handler(_echo)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bench.Echo", {"Ask": handler}),)
        )
        port: int = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return port

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    yield f"127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """The client in its process."""
    with Client() as client:
        yield client


def _target(address: str, message: bytes, answer: bytes | None = None) -> Target:
    check = Always(message if answer is None else answer)
    return Target(address, "grpc", PATH, (message,), check, ())


def test_callers_ask_again_and_every_answer_counts(client: Client, address: str) -> None:
    """Eight callers get many answers, with a latency for each."""
    found = client.measure(_target(address, b"hello"), SHORT)
    assert found.answers > SHORT.in_flight
    assert len(found.latency_ms) == found.answers
    assert found.latency_ms.min() > 0
    assert found.client_cpu_seconds > 0


def test_large_messages_keep_to_flow_control(client: Client, address: str) -> None:
    """Requests that together are larger than the server's window come through whole."""
    found = client.measure(_target(address, b"x" * 40_000), SHORT)
    assert found.answers > SHORT.in_flight


def test_a_wrong_answer_ends_the_measurement(client: Client, address: str) -> None:
    """There are no figures for answers that are not what they must be."""
    with pytest.raises(AssertionError, match="not the ready answer"):
        client.measure(_target(address, b"hello", b"hallo"), SHORT)


def test_a_failed_call_ends_the_measurement(client: Client, address: str) -> None:
    """An error of the server is told with what the server said."""
    with pytest.raises(WireError, match="not today"):
        client.measure(_target(address, REFUSED), SHORT)


def test_arrivals_do_not_wait(client: Client, address: str) -> None:
    """Each planned arrival is sent and answered, and latency counts from when it was planned."""
    load = Load(in_flight=1, seconds=0.5, per_second=200, warm_up_seconds=0.0)
    found = client.measure(_target(address, b"hello"), load)
    assert found.answers == 100
    assert len(found.late_ms) == 100
    assert (found.latency_ms.max() >= found.late_ms).all()


def test_scores_are_those_of_the_version_named() -> None:
    """A score is compared with that of the model whose version the answer names."""
    answers = []
    for version in (2, 3):
        response = scorer_pb2.ScoreResponse(version=str(version))
        response.scores.add(score=0.25 * version)
        answers.append((0, response.SerializeToString()))
    expected = np.array([[[0.5]], [[0.75]]])
    assert ScoresOf(expected).difference(answers) == 0
    with pytest.raises(AssertionError, match="differ from numpy"):
        ScoresOf(expected[::-1]).difference(answers)
