"""The request log: which calls get a line, what stands in it, and what never does."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import grpc
import pytest
import structlog

from scorer.batcher import Batcher, BatchLimits
from scorer.callers import Caller, Metadata, Peer
from scorer.calls import Call
from scorer.errors import InvalidRequestError, StoreUnavailableError, UnauthenticatedError
from scorer.logs import configure_logs
from scorer.metrics import ScorerMetrics
from scorer.model_pool import ModelPool
from scorer.online_store import open_online_store
from scorer.request_log import RequestLog
from scorer.scoring import Scoring
from scorer.v1 import scorer_pb2
from tests.scorer.shop import MODEL, Shop
from tests.scorer.small_server import METHOD, STREAM, Score, small_server

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What was logged since the last look, as JSON."""
    configure_logs()
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    structlog.reset_defaults()


class Somebody:
    """Knows everyone by the name in their metadata."""

    def identify(self, metadata: Metadata, peer: Peer) -> Caller:
        """Whoever says so."""
        return Caller(str(dict(metadata).get("authorization", ""))[-5:], None)


async def work(request: scorer_pb2.ScoreRequest, call: Call) -> scorer_pb2.ScoreResponse:
    """Fails as the model's name says."""
    call.model, call.version, call.request_id = request.model, "7", request.request_id
    call.rows, call.missing, call.oldest_age_seconds = len(request.rows), 2, 12.3456
    if request.model == "bad":
        raise InvalidRequestError("rows[0]: input 'card' is 4242")
    if request.model == "gone":
        raise StoreUnavailableError("the online store did not answer")
    if request.model == "broken":
        raise ZeroDivisionError
    return scorer_pb2.ScoreResponse(model=request.model)


def run_with(
    log: RequestLog, *models: str, request_id: str = "r-1", token: str = "secret alice"
) -> None:
    """Call once for each model, then write all lines."""

    async def run() -> None:
        async with started(log), small_server(work, log, callers=Somebody()) as score:
            for model in models:
                with suppress(grpc.aio.AioRpcError):
                    await score(request_for(model, request_id), metadata=[("authorization", token)])

    asyncio.run(run())


@asynccontextmanager
async def started(log: RequestLog) -> Any:
    """The log, running as long as the context."""
    log.start()
    yield
    await log.stop(10)


def request_for(model: str, request_id: str) -> scorer_pb2.ScoreRequest:
    """A request with a row whose values must never be seen in the log."""
    row = scorer_pb2.Row(inputs={"card": scorer_pb2.Value(int64_value=4242)})
    return scorer_pb2.ScoreRequest(model=model, rows=[row], request_id=request_id)


def test_a_line_says_all_of_a_call_and_no_secrets(lines: Lines) -> None:
    """An answered call is one JSON line with all that is known of it, without keys and tokens."""
    run_with(RequestLog(1.0, pytest.fail), "fraud")
    (line,) = lines()
    assert line.pop("took_ms") > 0
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "method": METHOD,
        "code": "OK",
        "model": "fraud",
        "version": "7",
        "rows": 1,
        "missing": 2,
        "oldest_age_seconds": 12.346,
        "request_id": "r-1",
        "caller": "alice",
    }


def test_a_line_is_dated_when_the_call_came(lines: Lines) -> None:
    """The time of a line is the call's beginning, not when somebody came to write it."""
    run_with(RequestLog(1.0, pytest.fail, clock=lambda: 1_700_000_000.0), "fraud")
    (line,) = lines()
    came = datetime.fromisoformat(line["timestamp"]).timestamp()
    assert came == pytest.approx(1_700_000_000.0 - line["took_ms"] / 1000, abs=2e-6)
    assert came < 1_700_000_000.0


def test_failures_get_a_line_whatever_the_share(lines: Lines) -> None:
    """With a share of 0 only failures are told, by their code, defects of ours as errors."""
    run_with(RequestLog(0.0, pytest.fail), "fraud", "bad", "gone", "broken")
    told = [(line["code"], line["level"]) for line in lines() if line["event"] == "request"]
    assert told == [
        ("INVALID_ARGUMENT", "warning"),
        ("UNAVAILABLE", "warning"),
        ("INTERNAL", "error"),
    ]


class Nobody:
    """Knows no one."""

    def identify(self, metadata: Metadata, peer: Peer) -> Caller:
        """Turn them away."""
        raise UnauthenticatedError("send a token")


class OnlyOthers:
    """Lets everyone in, for another model."""

    def identify(self, metadata: Metadata, peer: Peer) -> Caller:
        """Somebody who may use one model."""
        return Caller("eve", frozenset({"other"}))


def test_a_forbidden_model_is_named(scorer_shop: Shop, lines: Lines) -> None:
    """An operator sees who asked for which model in vain."""

    async def run() -> None:
        log = RequestLog(0.0, pytest.fail)
        metrics = ScorerMetrics()
        pool = ModelPool(scorer_shop.repository, 1, metrics.swapped)
        reader = open_online_store(scorer_shop.folder)
        batcher = Batcher(reader, metrics, BatchLimits(1, 0.0, 1.0))
        scoring = Scoring(pool, batcher, metrics, 1, lambda: 0)

        async def ask(request: scorer_pb2.ScoreRequest, call: Call) -> scorer_pb2.ScoreResponse:
            await scoring.model(call, request.model)
            raise AssertionError("it was let through")

        async with started(log), small_server(ask, log, callers=OnlyOthers()) as score:
            with pytest.raises(grpc.aio.AioRpcError):
                await score(request_for(MODEL, ""))
        await reader.close()

    asyncio.run(run())
    told = [(line["code"], line["model"], line["caller"]) for line in lines()]
    assert told == [("PERMISSION_DENIED", MODEL, "eve")]


def test_requests_of_a_stream_have_lines_of_their_own(lines: Lines) -> None:
    """Each request of a stream is told as a call is; the stream itself is not."""

    async def run() -> None:
        log = RequestLog(1.0, pytest.fail)
        async with started(log), small_server(work, log) as score:
            await score.stream(*(request_for(model, model) for model in ("fraud", "bad")))

    asyncio.run(run())
    told = [(line["method"], line["code"], line["request_id"]) for line in lines()]
    assert sorted(told) == [(STREAM, "INVALID_ARGUMENT", "bad"), (STREAM, "OK", "fraud")]


def test_a_stream_that_is_turned_away_has_a_line(lines: Lines) -> None:
    """A stream that nobody lets in is a failure like any other."""

    async def run() -> None:
        log = RequestLog(0.0, pytest.fail)
        async with started(log), small_server(work, log, callers=Nobody()) as score:
            with pytest.raises(grpc.aio.AioRpcError):
                await score.stream(request_for("fraud", "r-1"))

    asyncio.run(run())
    assert [(line["method"], line["code"]) for line in lines()] == [(STREAM, "UNAUTHENTICATED")]


def test_an_error_text_is_not_in_the_line(lines: Lines) -> None:
    """The text of an error may repeat a value of the request, so it is not told."""
    run_with(RequestLog(0.0, pytest.fail), "bad")
    assert "4242" not in json.dumps(lines())


def test_answered_calls_are_sampled(lines: Lines) -> None:
    """Of answered calls those get a line whose number falls below the share."""
    chances = iter([0.2, 0.3, 0.0, 0.9])
    log = RequestLog(0.3, pytest.fail, chance=lambda: next(chances))
    run_with(log, "a", "b", "c", "d")
    assert [line["model"] for line in lines()] == ["a", "c"]


def test_a_flood_of_failures_is_cut(lines: Lines) -> None:
    """Past the limit of a second failures are counted, and the next line says how many."""
    now, left_out = [100.0], Counter[str]()
    log = RequestLog(
        0.0,
        lambda reason: left_out.update([reason]),
        failures_per_second_max=2,
        clock=lambda: now[0],
    )

    async def run() -> None:
        async with started(log), small_server(work, log) as score:
            for number in range(6):
                now[0] = 101.0 if number == 5 else 100.0 + number / 10
                await _failing(score)

    asyncio.run(run())
    assert left_out == {"rate": 3}
    assert [line.get("left_out", 0) for line in lines()] == [0, 0, 3]


async def _failing(score: Score) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await score(request_for("bad", ""))


def test_what_was_left_out_is_told_at_the_end(lines: Lines) -> None:
    """Lines left out before the log stops are told although no other request comes."""
    log = RequestLog(0.0, lambda _: None, failures_per_second_max=1, clock=lambda: 5.0)
    run_with(log, "bad", "bad", "bad")
    assert [(line["event"], line.get("left_out")) for line in lines()] == [
        ("request", None),
        ("requests_left_out", 2),
    ]


def test_lines_that_cannot_be_written_take_bounded_memory(lines: Lines) -> None:
    """While nobody takes the lines, no more than the limit wait; the rest is counted."""
    left_out = Counter[str]()
    log = RequestLog(1.0, lambda reason: left_out.update([reason]), waiting_max=3)

    async def run() -> None:
        async with small_server(work, log) as score:
            for _ in range(8):
                await score(request_for("fraud", ""))
        log.start()
        await log.stop(10)

    asyncio.run(run())
    assert left_out == {"full": 5}
    assert [line.get("left_out") for line in lines()] == [None, None, None, 5]


def test_long_names_are_cut(lines: Lines) -> None:
    """A request id of any length takes little room, and none makes a second line."""
    run_with(RequestLog(1.0, pytest.fail), "m\n" * 500, request_id="x" * 10_000)
    (line,) = lines()
    assert len(line["request_id"]) == len(line["model"]) == 128


def test_a_stderr_that_nobody_reads_does_no_harm(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a full pipe nothing is written: the log ends in time and counts what it kept."""
    left_out = Counter[str]()
    log = RequestLog(1.0, lambda reason: left_out.update([reason]))
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w", encoding="utf-8") as full:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        monkeypatch.setattr("sys.stderr", full)
        run_with(log, "fraud", "fraud")
    assert left_out == {"unwritable": 2}


def test_a_closed_stderr_does_no_harm(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are answered and the log ends in time although its lines cannot be written."""
    left_out = Counter[str]()
    log = RequestLog(1.0, lambda reason: left_out.update([reason]))
    with open("/dev/null", "w", encoding="utf-8") as closed:  # noqa: PTH123 - a device
        pass
    monkeypatch.setattr("sys.stderr", closed)
    run_with(log, "fraud", "fraud")
    assert left_out == {"unwritable": 2}
