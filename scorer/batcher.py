"""Concurrent requests share one read of the online store and one run of the model."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scorer.errors import (
    InvalidRequestError,
    OverloadedError,
    ScorerError,
    StoppingError,
    StoreUnavailableError,
    UnreadableEntityError,
)
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel
from scorer.online_store import Cells, OnlineReader, Wanted
from scorer.row_room import ROWS_PER_REQUEST, RowRoom
from scorer.vector import Floats, VectorFiller, Vectors
from scorer.vector_plan import CheckedRows

# Rows of one batch: more would hold the loop, and with it everybody else.
_BATCH_ROWS_MAX = 1_024
# Who met others so long ago, or at most twice that, meets them no more.
_COMPANY_SECONDS = 0.05

_Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of the batcher.

    Attributes:
        in_flight_max: requests accepted and not answered yet; rows are bounded to 16 times that.
        wait_seconds_max: longest that a request waits, while others are read, to join others.
        read_timeout_seconds: a read of the store is given up after this.
    """

    in_flight_max: int
    wait_seconds_max: float
    read_timeout_seconds: float


@dataclass(slots=True)
class ScoredRows:
    """Scores of some rows, and the vectors that they are the scores of.

    Attributes:
        scores: one for each row.
        vectors: of the rows.
        read_at: when the read of the store began and ended, ``time.perf_counter()``; None if
            nothing was read.
        run_at: when the model's run began and ended.
        probabilities: float64[N, C] of a multi-class model; else None.
    """

    scores: list[float]
    vectors: Vectors
    read_at: _Span | None
    run_at: _Span
    probabilities: Floats | None = None


@dataclass(slots=True, eq=False)
class _Request:
    """Rows to read, and to run unless only their vectors are wanted."""

    model: LoadedModel
    rows: CheckedRows
    at_us: int
    is_run: bool
    answer: asyncio.Future[ScoredRows]


class Batcher:
    """Collects requests while others are under way, then reads and runs for all of them at once.

    An idle batcher starts at the end of the loop's turn, so that only what came together waits for
    each other. Where there were others lately, a batch begins as soon as so many requests are in
    flight as there were then: more are not to be expected.

    Attributes:
        row_room: for whole requests; ``score`` sees them in pieces.
    """

    def __init__(self, reader: OnlineReader, metrics: ScorerMetrics, limits: BatchLimits) -> None:
        """Nothing is read before the first request."""
        self._reader = reader
        self._metrics = metrics
        self._limits = limits
        self._filler = VectorFiller()
        self.row_room = RowRoom(ROWS_PER_REQUEST * limits.in_flight_max)
        self._in_flight = 0
        self._rows_in_flight = 0
        self._pending: deque[_Request] = deque()
        self._forming: asyncio.Task[None] | None = None
        self._waiting: asyncio.TimerHandle | None = None
        # Requests in flight when batches began, at most: in this span of time, and in the last.
        self._met = self._met_before = 0
        self._span_ends = 0.0
        # The loop itself holds tasks only weakly.
        self._batches: set[asyncio.Task[None]] = set()
        metrics.in_flight.set_function(lambda: self._in_flight)

    async def score(self, model: LoadedModel, rows: CheckedRows, at_us: int) -> ScoredRows:
        """Score checked rows with that model, as of event time ``at_us`` (microseconds).

        Raises:
            OverloadedError: too many requests, or rows, are in flight.
            StoreUnavailableError: the online store failed, or took too long.
            InvalidRequestError: a row's values are too large to give a finite score, or an
                on-demand view fails at it.
            ModelFaultError: the model failed.
        """
        return await self._put(model, rows, at_us, is_run=True)

    async def vectors(self, model: LoadedModel, rows: CheckedRows, at_us: int) -> Vectors:
        """The vectors that ``score`` would score; raises as it does, for what comes before."""
        return (await self._put(model, rows, at_us, is_run=False)).vectors

    async def drain(self) -> None:
        """Wait until all that was put is answered; each batch has a time limit."""
        while self._batches or self._pending:
            if self._waiting is not None:
                self._form()
            await asyncio.wait(self._batches)

    async def _put(
        self, model: LoadedModel, rows: CheckedRows, at_us: int, *, is_run: bool
    ) -> ScoredRows:
        count = len(rows.given)
        limits = self._limits
        if self._in_flight >= limits.in_flight_max:
            raise OverloadedError(
                f"{limits.in_flight_max} requests are in flight already; try again later"
            )
        rows_max = ROWS_PER_REQUEST * limits.in_flight_max
        if self._rows_in_flight and self._rows_in_flight + count > rows_max:
            raise OverloadedError(f"{rows_max} rows are in flight already; try again later")
        loop = asyncio.get_running_loop()
        request = _Request(model, rows, at_us, is_run, loop.create_future())
        self._in_flight += 1
        self._rows_in_flight += count
        self._pending.append(request)
        if self._forming is None:
            self._wait_or_form(loop)
        return await request.answer

    def _wait_or_form(self, loop: asyncio.AbstractEventLoop) -> None:
        """Whoever came together with others, or while others are read, may meet more of them."""
        expected = self._expected(loop.time())
        if 1 < expected <= self._in_flight or not (expected > 1 or self._batches):
            self._form()
        elif self._waiting is None:
            self._waiting = loop.call_later(self._limits.wait_seconds_max, self._form)

    def _expected(self, now: float) -> int:
        """How many requests were in flight at one time lately."""
        if now >= self._span_ends:
            is_next = now < self._span_ends + _COMPANY_SECONDS
            self._met_before, self._met = self._met if is_next else 0, 0
            self._span_ends = now + _COMPANY_SECONDS
        return max(self._met, self._met_before)

    def _form(self) -> None:
        """Have a batch of all that is pending when its task begins, at the end of this turn."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._forming = asyncio.get_running_loop().create_task(self._run())
        self._batches.add(self._forming)
        self._forming.add_done_callback(self._ended)

    def _taken(self) -> list[_Request]:
        batch: list[_Request] = []
        rows = 0
        while self._pending and rows < _BATCH_ROWS_MAX:
            batch.append(self._pending.popleft())
            rows += len(batch[-1].rows.given)
        self._forming = None
        if self._in_flight > 1:
            self._met = max(self._met, self._in_flight)
        else:
            self._met = self._met_before = 0
        if self._pending:
            self._form()
        return batch

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if not self._pending or self._batches or self._forming is not None:
            return
        if self._expected(task.get_loop().time()) <= 1:
            self._form()

    async def _run(self) -> None:
        batch = self._taken()
        try:
            try:
                await self._answer_all(batch)
            except UnreadableEntityError:
                if len(batch) == 1:
                    raise
                # It is the trouble of those alone who asked for that entity.
                for request in batch:
                    await self._answer_alone(request)
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            _fail(batch, error)
        finally:
            # Counted here and not where the caller waits: a caller may leave, the work remains.
            self._in_flight -= len(batch)
            self._rows_in_flight -= sum(len(request.rows.given) for request in batch)
            self._metrics.batch(len(batch))
            _fail(batch, StoppingError("the scorer is stopping; try again"))

    async def _answer_alone(self, request: _Request) -> None:
        try:
            await self._answer_all([request])
        except UnreadableEntityError as error:
            _fail([request], error)

    async def _answer_all(self, batch: list[_Request]) -> None:
        found, read_at = await self._read(batch)
        by_model: dict[LoadedModel, list[_Request]] = {}
        for request in batch:
            # A caller that has gone away needs no score.
            if not request.answer.done():
                by_model.setdefault(request.model, []).append(request)
        for model, requests in by_model.items():
            self._infer(model, requests, found, read_at)

    async def _read(self, batch: list[_Request]) -> tuple[dict[Wanted, Cells], _Span | None]:
        """Everything the batch wants, each entity once, and when it was read."""
        wanted = dict.fromkeys(
            one for request in batch for asked in request.rows.wanted for one in asked
        )
        wanted.pop(None, None)
        if not wanted:
            return {}, None
        keys: list[Wanted] = list(wanted)  # type: ignore[arg-type]
        started = time.perf_counter()
        limit = self._limits.read_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                found = await self._reader.read_cells(keys)
        except TimeoutError:
            raise StoreUnavailableError(
                f"the online store did not answer within {limit:g} seconds"
            ) from None
        ended = time.perf_counter()
        self._metrics.feature_read_seconds.observe(ended - started)
        return dict(zip(keys, found, strict=True)), (started, ended)

    def _infer(
        self,
        model: LoadedModel,
        requests: list[_Request],
        found: Mapping[Wanted, Cells],
        read_at: _Span | None,
    ) -> None:
        try:
            vectors = self._filled(model, requests, found)
            started = time.perf_counter()
            is_run = any(request.is_run for request in requests)
            probabilities: Floats | None = None
            if not is_run:
                scores = np.zeros(len(vectors.values))
            elif model.is_multiclass:
                scores, probabilities = model.outputs(vectors.values)
            else:
                scores = model.run(vectors.values)
        except ScorerError as error:
            if len(requests) == 1:
                _fail(requests, error)
                return
            # A stored value that cannot be read is the trouble of those alone who asked for it.
            for request in requests:
                self._infer(model, [request], found, read_at)
            return
        run_at = (started, time.perf_counter())
        if is_run:
            self._metrics.ran(model.manifest.model, len(scores))
        start = 0
        for request in requests:
            end = start + len(request.rows.given)
            part = vectors if len(requests) == 1 else vectors.part(start, end)
            scored = ScoredRows(scores[start:end].tolist(), part, read_at, run_at)
            if probabilities is not None:
                scored.probabilities = probabilities[start:end]
            _answer(request, scored)
            start = end

    def _filled(
        self, model: LoadedModel, requests: Sequence[_Request], found: Mapping[Wanted, Cells]
    ) -> Vectors:
        if len(requests) == 1:
            rows = requests[0].rows
            at_us = [requests[0].at_us] * len(rows.given)
            return self._filler.fill(model.plan, rows.given, rows.wanted, found, at_us, rows.texts)
        return self._filler.fill(
            model.plan,
            [given for request in requests for given in request.rows.given],
            [
                [one for request in requests for one in request.rows.wanted[number]]
                for number in range(len(model.plan.reads))
            ],
            found,
            [request.at_us for request in requests for _ in request.rows.given],
            [texts for request in requests for texts in request.rows.texts],
        )


def _answer(request: _Request, scored: ScoredRows) -> None:
    for number, why in scored.vectors.refused.items():
        _fail([request], InvalidRequestError(f"rows[{number}]: {why}"))
        return
    if request.is_run:
        scores = scored.scores
        # The model scored its defaults when it was loaded: what is too large came from outside.
        if not all(map(math.isfinite, scores)) or scored.probabilities is not None:
            broken = first_not_finite(scores, scored.probabilities)
        else:
            broken = None
        if broken is not None:
            text = f"rows[{broken}]: its values are too large for the model to compute a score"
            _fail([request], InvalidRequestError(text))
            return
    request.answer.set_result(scored)


def first_not_finite(scores: Sequence[float], probabilities: Floats | None) -> int | None:
    """Number of the first row without a finite score, or probability; None if all have them."""
    for number, score in enumerate(scores):
        if not math.isfinite(score):
            return number
    if probabilities is not None and not np.isfinite(probabilities).all():
        return int(np.argmin(np.isfinite(probabilities).all(axis=1)))
    return None


def _fail(requests: Sequence[_Request], error: Exception) -> None:
    """Answer with an error all that have no answer yet."""
    for request in requests:
        if not request.answer.done():
            request.answer.set_exception(error)
