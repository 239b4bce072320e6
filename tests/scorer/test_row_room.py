"""Many large requests at a time: some are answered in time, the others are refused at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from scorer.answering import Answering
from scorer.batcher import Batcher, BatchLimits
from scorer.calls import Call
from scorer.client import score_request
from scorer.errors import OverloadedError
from scorer.messages import Messages
from scorer.metrics import ScorerMetrics
from scorer.model_pool import ModelPool
from scorer.scoring import Scoring
from scorer.service import ScorerService
from scorer.v1 import scorer_pb2
from tests.scorer.feature_shop import LIMITS, TRIP, FeatureShop, row, shop_server
from tests.scorer.shop import MODEL, ROW, Shop
from tests.scorer.test_batcher import WatchedReader

# A hundred requests may be in flight, of sixteen rows each.
_ROWS = 1_600


def test_rows_of_large_requests_count_until_their_answer(scorer_shop: Shop) -> None:
    """While one is under way the next is refused before its rows are looked at, small ones not."""

    async def run() -> None:
        metrics = ScorerMetrics()
        pool = ModelPool(scorer_shop.repository, 1, metrics.swapped)
        await pool.poll()
        reader = WatchedReader(scorer_shop)
        batcher = Batcher(reader, metrics, BatchLimits(100, 0.0, 30.0))
        scoring = Scoring(pool, batcher, metrics, 10_000, lambda: 0)
        answering = Answering(scoring, pool, metrics, lambda: 0, None, None)
        unused: Any = None
        service = ScorerService(
            unused, pool, scoring, answering, Messages(), unused, unused, unused
        )

        def score(rows: int) -> asyncio.Task[scorer_pb2.ScoreResponse]:
            request = score_request(MODEL, [ROW] * rows)
            return asyncio.create_task(service.score(request, Call("Score", 0.0)))

        reader.gate.clear()
        first = score(_ROWS)
        await reader.asked(1)
        with pytest.raises(OverloadedError, match="1600 rows of large requests are under way"):
            await score(_ROWS)
        small = score(2)
        reader.gate.set()
        assert [len((await one).scores) for one in (first, small)] == [_ROWS, 2]
        assert len((await score(_ROWS)).scores) == _ROWS
        left = score(_ROWS)
        await asyncio.sleep(0)
        left.cancel()
        assert len((await score(_ROWS)).scores) == _ROWS
        await batcher.drain()
        await reader.close()

    asyncio.run(run())


def test_large_reads_of_features_are_refused_too(feature_shop: FeatureShop) -> None:
    """``GetFeatures`` keeps room for its rows until they are answered."""
    limits = replace(LIMITS, in_flight_max=10, rows_max=1_000)
    reader = WatchedReader(feature_shop)

    async def run() -> None:
        async with shop_server(feature_shop, limits, reader) as server:

            def get(rows: int) -> asyncio.Task[scorer_pb2.GetFeaturesResponse]:
                return asyncio.create_task(
                    server.get(feature_service="trip", rows=[row(TRIP)] * rows)
                )

            reader.gate.clear()
            first = get(600)
            await reader.asked(1)
            with pytest.raises(grpc.aio.AioRpcError, match="600 rows of large requests") as caught:
                await get(600)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            reader.gate.set()
            assert [len((await one).rows) for one in (first, get(600))] == [600, 600]

    asyncio.run(run())
