"""Requests of one loop turn share their read; bounds and failures reach exactly those concerned."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest

from scorer.batcher import Batcher, BatchLimits, ScoredRows
from scorer.errors import OverloadedError, StoreUnavailableError, UnreadableEntityError
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel
from scorer.online_store import Cells, Wanted
from scorer.sqlite_reader import SqliteReader
from scorer.vector import MissingReason
from scorer.vector_plan import CheckedRows, Scalar, check_rows
from tests.scorer.shop import (
    NOON_US,
    ROW,
    VECTOR,
    WEIGHTS,
    Shop,
    feast_key,
    linear_onnx,
    linear_score,
    manifest_for,
)

BROKEN = feast_key({"card": 13})


class WatchedReader:
    """The real reader, watched, and held back while its gate is closed."""

    def __init__(self, shop: Shop) -> None:
        self._reader = SqliteReader(shop.online_path, "shop")
        self.reads: list[list[Wanted]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._more = asyncio.Condition()

    async def read_cells(self, wanted: Sequence[Wanted]) -> list[Cells]:
        """Read once the gate is open."""
        async with self._more:
            self.reads.append(list(wanted))
            self._more.notify_all()
        await self.gate.wait()
        return await self._reader.read_cells(wanted)

    async def asked(self, reads: int) -> None:
        """Wait until so many reads have begun."""
        async with asyncio.timeout(30), self._more:
            await self._more.wait_for(lambda: len(self.reads) >= reads)

    async def close(self) -> None:
        """Close the real reader."""
        await self._reader.close()


def load(version: str) -> LoadedModel:
    """A model whose bias is its version."""
    data = linear_onnx(WEIGHTS, float(version))
    return LoadedModel(manifest_for(version, data), data)


def batcher(
    reader: WatchedReader, in_flight_max: int = 10, timeout: float = 30.0, wait: float = 30.0
) -> Batcher:
    """A batcher on that reader; by default what comes while it reads waits for the end of that."""
    return Batcher(reader, ScorerMetrics(), BatchLimits(in_flight_max, wait, timeout))


def checked(model: LoadedModel, *rows: dict[str, Scalar]) -> CheckedRows:
    """These rows, for that model."""
    return check_rows(model.plan, 0, rows)


def count(answer: ScoredRows) -> int:
    """How many rows were scored."""
    return len(answer.scores)


def test_concurrent_requests_share_a_read(scorer_shop: Shop) -> None:
    """Requests of one loop turn, of two models, read each entity once, and get their own scores."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        scoring = batcher(reader)
        models = [load("1"), load("2")]
        rows: list[dict[str, Scalar]] = [
            ROW,
            {**ROW, "card": None},
            {**ROW, "card": 1, "amount": 9.0},
        ]
        answers = await asyncio.gather(
            *(scoring.score(model, checked(model, *rows), NOON_US) for model in models),
            scoring.score(models[0], checked(models[0], ROW), NOON_US),
            scoring.score(models[0], checked(models[0], *rows[::-1]), NOON_US),
        )
        assert len(reader.reads) == 1
        assert len(reader.reads[0]) == len(set(reader.reads[0])) == 3
        assert [count(answer) for answer in answers] == [3, 3, 1, 3]
        vectors = [answer.vectors.values.tolist() for answer in answers]
        assert [one[0] == VECTOR for one in vectors] == [True] * 3 + [False]
        assert vectors[3] == vectors[0][::-1]
        assert answers[3].vectors.missing == answers[0].vectors.missing[::-1]
        for answer, bias in zip(answers, (1.0, 2.0, 1.0, 1.0), strict=True):
            for score, vector in zip(answer.scores, answer.vectors.values.tolist(), strict=True):
                assert score == pytest.approx(linear_score(vector, bias), abs=1e-15)
        await reader.close()

    asyncio.run(run())


def test_too_many_requests_are_refused_at_once(scorer_shop: Shop) -> None:
    """At the bound a request is refused without waiting; when one is answered there is room."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        reader.gate.clear()
        scoring, model = batcher(reader, in_flight_max=2, wait=0.01), load("1")
        rows = checked(model, ROW)
        waiting = [asyncio.create_task(scoring.score(model, rows, NOON_US)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 requests"):
            await scoring.score(model, rows, NOON_US)
        reader.gate.set()
        await asyncio.gather(*waiting)
        assert count(await scoring.score(model, rows, NOON_US)) == 1
        await reader.close()

    asyncio.run(run())


def test_a_caller_that_leaves_still_counts_until_its_work_ends(scorer_shop: Shop) -> None:
    """Callers that give up cannot pile up reads behind a store that hangs."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        reader.gate.clear()
        scoring, model = batcher(reader, in_flight_max=1), load("1")
        rows = checked(model, ROW)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(scoring.score(model, rows, NOON_US), 0.01)
        with pytest.raises(OverloadedError):
            await scoring.score(model, rows, NOON_US)
        reader.gate.set()
        await scoring.drain()
        assert count(await scoring.score(model, rows, NOON_US)) == 1
        await reader.close()

    asyncio.run(run())


def test_a_store_that_hangs_is_given_up(scorer_shop: Shop) -> None:
    """A read that takes too long is StoreUnavailableError for all requests that wait for it."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        reader.gate.clear()
        scoring, model = batcher(reader, timeout=0.02, wait=0.01), load("1")
        rows = checked(model, ROW)
        calls = (scoring.score(model, rows, NOON_US) for _ in range(2))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2
        reader.gate.set()
        assert count(await scoring.score(model, rows, NOON_US)) == 1
        await reader.close()

    asyncio.run(run())


def test_rows_without_entities_need_no_store(scorer_shop: Shop) -> None:
    """When every entity key is null, nothing is read at all."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        scoring, model = batcher(reader), load("1")
        rows = checked(model, {**ROW, "card": None, "origin": None})
        answer = await scoring.score(model, rows, NOON_US)
        reason = MissingReason.NULL_INPUT
        assert answer.vectors.missing == [((3, reason), (4, reason), (5, reason))]
        assert not reader.reads
        await reader.close()

    asyncio.run(run())


def test_what_comes_during_a_read_shares_the_next(scorer_shop: Shop) -> None:
    """Requests that come while one is read wait for its end, and are then read together."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        reader.gate.clear()
        scoring, model = batcher(reader), load("1")
        first = asyncio.create_task(scoring.score(model, checked(model, ROW), NOON_US))
        await reader.asked(1)
        others: list[dict[str, Scalar]] = [{**ROW, "card": number} for number in range(3)]
        later = [
            asyncio.create_task(scoring.score(model, checked(model, one), NOON_US))
            for one in others
        ]
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(reader.reads) == 1
        reader.gate.set()
        await asyncio.gather(first, *later)
        assert [len(read) for read in reader.reads] == [2, 4]
        await reader.close()

    asyncio.run(run())


def test_nobody_waits_for_a_read_that_hangs(scorer_shop: Shop) -> None:
    """After the longest wait a request is read although another read has not come back."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        reader.gate.clear()
        scoring, model = batcher(reader, wait=0.001), load("1")
        calls = []
        for number in range(1, 4):
            rows = checked(model, {**ROW, "card": number})
            calls.append(asyncio.create_task(scoring.score(model, rows, NOON_US)))
            await reader.asked(number)
        reader.gate.set()
        await asyncio.gather(*calls)
        await reader.close()

    asyncio.run(run())


def test_a_batch_is_bounded(scorer_shop: Shop) -> None:
    """However much comes at once, the rows of one read are bounded, and all are answered."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        scoring, model = batcher(reader, in_flight_max=1_000), load("1")
        rows = checked(model, *({**ROW, "card": number} for number in range(400)))
        calls = (scoring.score(model, rows, NOON_US) for _ in range(8))
        assert [count(answer) for answer in await asyncio.gather(*calls)] == [400] * 8
        assert len(reader.reads) == 3
        await reader.close()

    asyncio.run(run())


def test_rows_in_flight_are_bounded(scorer_shop: Shop) -> None:
    """A request whose rows do not fit beside those under way is refused; alone it is taken."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        reader.gate.clear()
        scoring, model = batcher(reader, in_flight_max=2), load("1")
        many = checked(model, *[ROW] * 40)
        waiting = asyncio.create_task(scoring.score(model, many, NOON_US))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="32 rows"):
            await scoring.score(model, checked(model, ROW), NOON_US)
        reader.gate.set()
        assert count(await waiting) == 40
        assert count(await scoring.score(model, many, NOON_US)) == 40
        await reader.close()

    asyncio.run(run())


def test_company_of_long_ago_keeps_nobody_waiting(scorer_shop: Shop) -> None:
    """Who comes alone after a pause is read at once, although the last batch had several."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        scoring, model = batcher(reader), load("1")
        rows = checked(model, ROW)
        await asyncio.gather(*(scoring.score(model, rows, NOON_US) for _ in range(2)))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            assert count(await scoring.score(model, rows, NOON_US)) == 1
        await reader.close()

    asyncio.run(run())


def test_a_batch_begins_when_all_are_there_that_were_lately(scorer_shop: Shop) -> None:
    """Of callers who ask again and again none waits longer than for the others."""

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        scoring, model = batcher(reader, wait=5.0), load("1")
        rows = checked(model, ROW)

        async def caller() -> None:
            for _ in range(20):
                await scoring.score(model, rows, NOON_US)

        async with asyncio.timeout(60):
            await asyncio.gather(*(caller() for _ in range(4)))
        assert len(reader.reads) < 80
        await reader.close()

    asyncio.run(run())


def test_a_value_that_cannot_be_read_fails_only_who_asked_for_it(scorer_shop: Shop) -> None:
    """Of requests that share a read and a run, the others get their scores."""

    async def run() -> None:
        scorer_shop.write("card_1h", feast_key({"card": 7}), {"spent": 1.0})
        with closing(sqlite3.connect(scorer_shop.online_path)) as db, db:
            db.execute(
                "UPDATE shop_card_1h SET value = ? WHERE entity_key = ?",
                (b"\x12\x05words", feast_key({"card": 7})),
            )
        reader = WatchedReader(scorer_shop)
        scoring, model = batcher(reader), load("1")
        asked = [checked(model, {**ROW, "card": card}) for card in (42, 7, 42)]
        answers = await asyncio.gather(
            *(scoring.score(model, rows, NOON_US) for rows in asked), return_exceptions=True
        )
        assert len(reader.reads) == 1
        assert isinstance(answers[1], StoreUnavailableError)
        assert "spent" in str(answers[1])
        assert "words" not in str(answers[1])
        for answer in (answers[0], answers[2]):
            assert isinstance(answer, ScoredRows)
            assert answer.scores == [pytest.approx(linear_score(VECTOR, 1.0), abs=1e-15)]
        await reader.close()

    asyncio.run(run())


def test_an_entity_that_cannot_be_read_fails_those_who_asked_for_it(scorer_shop: Shop) -> None:
    """Of a batch only the requests that want that entity fail; the others are read again."""

    class Broken(WatchedReader):
        async def read_cells(self, wanted: Sequence[Wanted]) -> list[Cells]:
            if any(one.entity_key == BROKEN for one in wanted):
                raise UnreadableEntityError("wrong type")
            return await super().read_cells(wanted)

    async def run() -> None:
        scoring, model = batcher(Broken(scorer_shop), wait=0.001), load("1")
        cards = (42, 13, 42, 13)
        calls = (
            scoring.score(model, checked(model, {**ROW, "card": card}), NOON_US) for card in cards
        )
        answers = await asyncio.gather(*calls, return_exceptions=True)
        kinds = [type(answer) for answer in answers]
        assert kinds == [ScoredRows, UnreadableEntityError] * 2
        assert count(await scoring.score(model, checked(model, ROW), NOON_US)) == 1

    asyncio.run(run())
