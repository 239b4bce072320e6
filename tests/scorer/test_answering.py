"""What an answered request leaves behind: for its line in the log, and for the prediction log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from contracts.log import LogWriter
from scorer import prediction_log
from scorer.answering import Answering, Asked
from scorer.batcher import Batcher, BatchLimits
from scorer.calls import Call
from scorer.errors import StoreUnavailableError
from scorer.metrics import ScorerMetrics
from scorer.model_pool import ModelPool
from scorer.prediction_log import PredictionLog
from scorer.scoring import Scoring
from scorer.shadowing import Shadowing, ShadowLimits, rest_after
from tests.scorer.rollout_shop import add, assign_by, challenge, shadow, until
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop
from tests.scorer.test_batcher import WatchedReader


def no_log() -> LogWriter:
    """A log that is never opened."""
    raise AssertionError


class Parts:
    """Answering with its parts; the prediction log has room for so many requests, and keeps all."""

    def __init__(self, shop: Shop, requests_max: int) -> None:
        """Nothing is loaded yet."""
        self.metrics = ScorerMetrics()
        self.pool = ModelPool(shop.repository, 1, self.metrics.swapped)
        self.reader = WatchedReader(shop)
        self.predictions = PredictionLog(no_log, requests_max, self.metrics)
        batcher = Batcher(self.reader, self.metrics, BatchLimits(100, 0.0, 30.0))
        scoring = Scoring(self.pool, batcher, self.metrics, 1_000, lambda: NOON_US)
        limits = ShadowLimits(1_000, 0.5, 30.0)
        self.shadowing = Shadowing(self.reader, self.predictions, self.metrics, limits)
        self.answering = Answering(
            scoring, self.pool, self.metrics, lambda: NOON_US, self.predictions, self.shadowing
        )

    async def ask(self, rows: int = 1) -> Call:
        """The call of a request that was answered."""
        call = Call("Score", 0.0)
        target = self.answering.free_target(call, MODEL)
        await self.answering.score(call, target, Asked([ROW] * rows, [""] * rows, None))
        return call

    def counted(self, name: str, **labels: str) -> float:
        """The value of a metric."""
        return self.metrics.registry.get_sample_value(f"headwater_scorer_{name}", labels) or 0.0


@asynccontextmanager
async def parts(shop: Shop, requests_max: int = 100) -> AsyncIterator[Parts]:
    """The parts with all models loaded, as long as the context."""
    made = Parts(shop, requests_max)
    await made.pool.poll()
    made.shadowing.start()
    try:
        yield made
    finally:
        await made.shadowing.stop(0.0)


def test_the_call_learns_which_version_answered(scorer_shop: Shop) -> None:
    """Its line in the log and its trace name the challenger where that answered all rows."""
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3")

    async def run(share: float) -> str:
        challenge(scorer_shop, "3", share)
        async with parts(scorer_shop) as made:
            return (await made.ask(2)).version

    assert [asyncio.run(run(share)) for share in (0.0, 1.0)] == ["2", "3"]


def test_a_store_that_is_away_is_not_asked_twice(scorer_shop: Shop) -> None:
    """The champion would read the same: what fails for the challenger fails for the caller."""
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3")
    challenge(scorer_shop, "3", 1.0)

    async def run() -> None:
        async with parts(scorer_shop) as made:
            scorer_shop.online_path.unlink()
            with pytest.raises(StoreUnavailableError):
                await made.ask()
            assert len(made.reader.reads) == 1
            assert made.counted("challenger_fallback_rows_total", model=MODEL) == 0

    asyncio.run(run())


def test_answers_go_first_in_the_log(scorer_shop: Shop) -> None:
    """Once the prediction log is half full there is room for answers only."""
    add(scorer_shop, "2")
    shadow(scorer_shop, "2")

    async def run() -> None:
        async with parts(scorer_shop, 8) as made:
            for _ in range(6):
                await made.ask()
            await until(
                lambda: made.counted("shadow_rows_dropped_total", model=MODEL, reason="full") == 6
            )
            assert made.counted("predictions_waiting") == 6
            assert made.counted("shadow_rows_total", model=MODEL, channel="shadow") == 0

    asyncio.run(run())


def test_only_so_many_rows_wait(scorer_shop: Shop) -> None:
    """While nobody works on them the rest is dropped and counted; those that wait are scored."""
    add(scorer_shop, "2")
    shadow(scorer_shop, "2")

    async def run() -> None:
        made = Parts(scorer_shop, 1_000)
        await made.pool.poll()
        for _ in range(20):
            await made.ask(100)
        labels = {"model": MODEL, "reason": "full"}
        assert made.counted("shadow_rows_dropped_total", **labels) == 1_000
        made.shadowing.start()
        labels = {"model": MODEL, "channel": "shadow"}
        await until(lambda: made.counted("shadow_rows_total", **labels) == 1_000)
        await made.shadowing.stop(1.0)

    asyncio.run(run())


@pytest.mark.parametrize("load", [0.01, 0.25, 0.5, 1.0])
def test_work_for_the_log_is_a_share_of_the_time(load: float) -> None:
    """After each piece of work comes a rest that makes it that share."""
    for busy in (0.001, 0.1, 2.0):
        assert busy / (busy + rest_after(busy, load)) == pytest.approx(load)


def test_names_that_take_the_place_of_others_are_told_apart() -> None:
    """Names of features are kept as JSON by where they lie in memory; that may come again."""
    names = ("a", "b")
    prediction_log._names[id(names)] = (("x",), msgspec.Raw(b'["x"]'))
    assert bytes(prediction_log._encoded_names(names)) == b'["a","b"]'
    assert bytes(prediction_log._encoded_names(names)) == b'["a","b"]'
