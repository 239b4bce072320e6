"""A scorer that stops keeps to its grace, whatever its callers do, and loses nothing it scored."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from scorer.client import ScoreOptions, score_request
from scorer.model_pool import ModelPool
from scorer.server import running, serve
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop

GRACE_SECONDS = 2.0
GIVE_UP_SECONDS = 20.0
# Records of so many rows are made by the log's thread, which takes a while.
REQUESTS, ROWS = 4, 3_000


def test_an_idle_stream_holds_a_stop_no_longer_than_the_grace(scorer_shop: Shop) -> None:
    """A stream left open costs the grace once, and what was scored over it is in the log."""

    async def run() -> float:
        settings = scorer_shop.settings(grace_seconds=GRACE_SECONDS)
        request = score_request(MODEL, [ROW], ScoreOptions(event_time_us=NOON_US))
        async with running(settings, scorer_shop.folder) as address:
            channel = grpc.aio.insecure_channel(address)
            call = scorer_pb2_grpc.ScorerServiceStub(channel).ScoreStream()
            await call.write(request)
            answer = await call.read()
            assert isinstance(answer, scorer_pb2.ScoreStreamResponse)
            assert answer.HasField("response")
            began = time.monotonic()
        took = time.monotonic() - began
        await channel.close()
        return took

    took = asyncio.run(run())
    assert GRACE_SECONDS <= took < 1.75 * GRACE_SECONDS


def test_what_was_scored_last_is_in_the_log_without_any_grace(scorer_shop: Shop) -> None:
    """The log gets a moment of its own for what is left, also where calls may take none."""

    async def run() -> int:
        at_noon = ScoreOptions(event_time_us=NOON_US)
        async with scorer_shop.client(grace_seconds=0.0) as client:
            for _ in range(REQUESTS):
                await client.score(MODEL, [ROW] * ROWS, at_noon)
        # Now, and not when its thread is done with them at last.
        return _rows_in_the_log(scorer_shop.folder)

    assert asyncio.run(run()) == REQUESTS * ROWS


def test_a_disk_that_does_not_answer_holds_no_stop(
    scorer_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends a scorer whose models are still being read, and no thread is waited for."""
    has_begun, answers = threading.Event(), threading.Event()

    def load(*_: Any, **__: Any) -> None:
        has_begun.set()
        answers.wait()

    def end() -> None:
        if has_begun.wait(GIVE_UP_SECONDS):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("scorer.server.LoadedModel", load)
    ending = threading.Thread(target=end)
    # Where the scorer waits for its disk, this is what ends the test.
    giving_up = threading.Timer(GIVE_UP_SECONDS, answers.set)
    giving_up.start()
    ending.start()
    try:
        asyncio.run(serve(scorer_shop.settings(), scorer_shop.folder))
        assert not answers.is_set()
    finally:
        giving_up.cancel()
        answers.set()
        ending.join()


def test_a_pipe_in_the_place_of_a_model_is_refused(scorer_shop: Shop) -> None:
    """What is no regular file is not waited for: the version is refused, the last one serves on."""
    scorer_shop.publish("2")
    file = scorer_shop.folder / "data" / "models" / MODEL / "2" / "model.onnx"
    file.unlink()
    os.mkfifo(file)
    swaps: list[str] = []

    async def run() -> None:
        pool = ModelPool(scorer_shop.repository, 1, lambda model, result, _: swaps.append(result))
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await pool.poll()
            scorer_shop.repository.set_channel(MODEL, "champion", "1", "test", "test", 0)
            await pool.poll()
        assert pool.channel(MODEL, "champion").manifest.version == "1"

    asyncio.run(run())
    assert swaps == ["refused", "swapped"]


def _rows_in_the_log(folder: Path) -> int:
    file = folder / "data" / "log" / "predictions" / "0.ndjson"
    lines = file.read_text().splitlines() if file.exists() else []
    return sum(len(json.loads(line)["rows"]) for line in lines)
