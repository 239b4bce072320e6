"""A scorer that stops keeps to its grace, whatever its callers do, and loses nothing it scored."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import grpc

from scorer.client import ScoreOptions, score_request
from scorer.server import running
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop

GRACE_SECONDS = 2.0
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


def _rows_in_the_log(folder: Path) -> int:
    file = folder / "data" / "log" / "predictions" / "0.ndjson"
    lines = file.read_text().splitlines() if file.exists() else []
    return sum(len(json.loads(line)["rows"]) for line in lines)
