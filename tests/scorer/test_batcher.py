"""Requests of one loop turn share their read; bounds and failures reach exactly those concerned."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from scorer.batcher import Batcher
from scorer.errors import OverloadedError, StoreUnavailableError
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel
from scorer.online_store import Found, Wanted
from scorer.sqlite_reader import SqliteReader
from scorer.vector import check_row
from tests.scorer.shop import (
    NOON_US,
    ROW,
    VECTOR,
    WEIGHTS,
    Shop,
    linear_onnx,
    linear_score,
    manifest_for,
)


class WatchedReader:
    """The real reader, watched, and held back while its gate is closed."""

    def __init__(self, shop: Shop) -> None:
        self._reader = SqliteReader(shop.online_path, "shop")
        self.reads: list[list[Wanted]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, wanted: Sequence[Wanted]) -> list[Found]:
        """Read once the gate is open."""
        self.reads.append(list(wanted))
        await self.gate.wait()
        return await self._reader.read(wanted)

    async def close(self) -> None:
        """Close the real reader."""
        await self._reader.close()


def load(version: str) -> LoadedModel:
    """A model whose bias is its version."""
    data = linear_onnx(WEIGHTS, float(version))
    return LoadedModel(manifest_for(version, data), data)


def batcher(reader: WatchedReader, in_flight_max: int = 10, timeout: float = 30.0) -> Batcher:
    """A batcher on that reader."""
    return Batcher(reader, ScorerMetrics(), in_flight_max, timeout)


def test_concurrent_requests_share_a_read(scorer_shop: Shop) -> None:
    """Requests of one loop turn, of two models, read each entity once, and get their own scores."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        scoring = batcher(reader)
        models = [load("1"), load("2")]
        others = [{**ROW, "card": None}, {**ROW, "card": 1, "amount": 9.0}]
        rows = [[check_row(m.plan, 0, r) for r in (ROW, *others)] for m in models]
        answers = await asyncio.gather(
            *(scoring.score(m, r, NOON_US) for m, r in zip(models, rows, strict=True)),
            scoring.score(models[0], rows[0][:1], NOON_US),
            scoring.score(models[0], rows[0][::-1], NOON_US),
        )
        assert len(reader.reads) == 1
        assert len(reader.reads[0]) == len(set(reader.reads[0])) == 3
        assert [len(answer) for answer in answers] == [3, 3, 1, 3]
        assert [answer[0].vector.values == VECTOR for answer in answers] == [True] * 3 + [False]
        assert [row.vector for row in answers[3]] == [row.vector for row in answers[0][::-1]]
        for answer, bias in zip(answers, (1.0, 2.0, 1.0, 1.0), strict=True):
            for row in answer:
                expected = linear_score(row.vector.values, bias)
                assert row.score == pytest.approx(expected, abs=1e-15)
        await reader.close()

    asyncio.run(run())


def test_too_many_requests_are_refused_at_once(scorer_shop: Shop) -> None:
    """At the bound a request is refused without waiting; when one is answered there is room."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        reader.gate.clear()
        scoring, model = batcher(reader, in_flight_max=2), load("1")
        rows = [check_row(model.plan, 0, ROW)]
        waiting = [asyncio.create_task(scoring.score(model, rows, NOON_US)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 requests"):
            await scoring.score(model, rows, NOON_US)
        reader.gate.set()
        await asyncio.gather(*waiting)
        assert len(await scoring.score(model, rows, NOON_US)) == 1
        await reader.close()

    asyncio.run(run())


def test_a_caller_that_leaves_still_counts_until_its_work_ends(scorer_shop: Shop) -> None:
    """Callers that give up cannot pile up reads behind a store that hangs."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        reader.gate.clear()
        scoring, model = batcher(reader, in_flight_max=1), load("1")
        rows = [check_row(model.plan, 0, ROW)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(scoring.score(model, rows, NOON_US), 0.01)
        with pytest.raises(OverloadedError):
            await scoring.score(model, rows, NOON_US)
        reader.gate.set()
        await scoring.drain()
        assert len(await scoring.score(model, rows, NOON_US)) == 1
        await reader.close()

    asyncio.run(run())


def test_a_store_that_hangs_is_given_up(scorer_shop: Shop) -> None:
    """A read that takes too long is StoreUnavailableError for all requests that wait for it."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        reader.gate.clear()
        scoring, model = batcher(reader, timeout=0.02), load("1")
        rows = [check_row(model.plan, 0, ROW)]
        calls = (scoring.score(model, rows, NOON_US) for _ in range(2))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2
        reader.gate.set()
        assert len(await scoring.score(model, rows, NOON_US)) == 1
        await reader.close()

    asyncio.run(run())


def test_rows_without_entities_need_no_store(scorer_shop: Shop) -> None:
    """When every entity key is null, nothing is read at all."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        scoring, model = batcher(reader), load("1")
        row = check_row(model.plan, 0, {**ROW, "card": None, "origin": None})
        answer = await scoring.score(model, [row], NOON_US)
        assert answer[0].vector.missing == (3, 4, 5)
        assert not reader.reads
        await reader.close()

    asyncio.run(run())
