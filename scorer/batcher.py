"""Requests of one loop turn share one read of the online store and one run of the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorer.errors import (
    InvalidRequestError,
    OverloadedError,
    ScorerError,
    StoppingError,
    StoreUnavailableError,
)
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel
from scorer.online_store import Found, OnlineReader, Wanted
from scorer.vector import RowInputs, RowVector, fill_row


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """The score of one row, and the vector that it is the score of."""

    score: float
    vector: RowVector


@dataclass(slots=True, eq=False)
class _Request:
    model: LoadedModel
    rows: Sequence[RowInputs]
    at_us: int
    answer: asyncio.Future[list[ScoredRow]]


class Batcher:
    """Collects requests until the loop turns, then reads and runs for all of them at once."""

    def __init__(
        self,
        reader: OnlineReader,
        metrics: ScorerMetrics,
        in_flight_max: int,
        read_timeout_seconds: float,
    ) -> None:
        """No more than ``in_flight_max`` requests are held; a read is given up after its time."""
        self._reader = reader
        self._metrics = metrics
        self._in_flight_max = in_flight_max
        self._read_timeout_seconds = read_timeout_seconds
        self._in_flight = 0
        self._pending: list[_Request] = []
        # The loop itself holds tasks only weakly.
        self._batches: set[asyncio.Task[None]] = set()

    async def score(
        self, model: LoadedModel, rows: Sequence[RowInputs], at_us: int
    ) -> list[ScoredRow]:
        """Score checked rows with that model, as of event time ``at_us`` (microseconds).

        Raises:
            OverloadedError: too many requests are in flight.
            StoreUnavailableError: the online store failed, or took too long.
            InvalidRequestError: a row's values are too large to give a finite score.
            ModelFaultError: the model failed.
        """
        if self._in_flight >= self._in_flight_max:
            raise OverloadedError(
                f"{self._in_flight_max} requests are in flight already; try again later"
            )
        loop = asyncio.get_running_loop()
        request = _Request(model, rows, at_us, loop.create_future())
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        self._pending.append(request)
        if len(self._pending) == 1:
            loop.call_soon(self._start)
        return await request.answer

    async def drain(self) -> None:
        """Wait until every batch that has been started is answered; each has a time limit."""
        while self._batches:
            await asyncio.wait(self._batches)

    def _start(self) -> None:
        batch, self._pending = self._pending, []
        task = asyncio.get_running_loop().create_task(self._run(batch))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)

    async def _run(self, batch: list[_Request]) -> None:
        try:
            found = await self._read(batch)
            by_model: dict[LoadedModel, list[_Request]] = {}
            for request in batch:
                # A caller that has gone away needs no score.
                if not request.answer.done():
                    by_model.setdefault(request.model, []).append(request)
            for model, requests in by_model.items():
                self._infer(model, requests, found)
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            _fail(batch, error)
        finally:
            # Counted here and not where the caller waits: a caller may leave, the work remains.
            self._in_flight -= len(batch)
            self._metrics.in_flight.set(self._in_flight)
            _fail(batch, StoppingError("the scorer is stopping; try again"))

    async def _read(self, batch: list[_Request]) -> dict[Wanted, Found]:
        """Everything the batch wants, each entity once."""
        wanted = list(
            dict.fromkeys(
                one
                for request in batch
                for row in request.rows
                for one in row.wanted
                if one is not None
            )
        )
        if not wanted:
            return {}
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._read_timeout_seconds):
                found = await self._reader.read(wanted)
        except TimeoutError:
            raise StoreUnavailableError(
                f"the online store did not answer within {self._read_timeout_seconds:g} seconds"
            ) from None
        self._metrics.feature_read_seconds.observe(time.perf_counter() - started)
        return dict(zip(wanted, found, strict=True))

    def _infer(
        self, model: LoadedModel, requests: list[_Request], found: dict[Wanted, Found]
    ) -> None:
        vectors = [
            fill_row(
                model.plan,
                row,
                [None if one is None else found[one] for one in row.wanted],
                request.at_us,
            )
            for request in requests
            for row in request.rows
        ]
        self._metrics.batch_rows.labels(model.manifest.model).observe(len(vectors))
        try:
            scores = model.run(np.array([vector.values for vector in vectors], dtype=np.float64))
        except ScorerError as error:
            _fail(requests, error)
            return
        start = 0
        for request in requests:
            rows = [
                ScoredRow(score, vector)
                for score, vector in zip(
                    scores[start : start + len(request.rows)].tolist(),
                    vectors[start : start + len(request.rows)],
                    strict=True,
                )
            ]
            start += len(request.rows)
            self._answer(request, rows)

    def _answer(self, request: _Request, rows: list[ScoredRow]) -> None:
        for number, row in enumerate(rows):
            # The model scored its defaults when it was loaded: what is too large came from outside.
            if not np.isfinite(row.score):
                _fail(
                    [request],
                    InvalidRequestError(
                        f"rows[{number}]: its values are too large for the model to compute a score"
                    ),
                )
                return
        request.answer.set_result(rows)


def _fail(requests: list[_Request], error: Exception) -> None:
    """Answer with an error all that have no answer yet."""
    for request in requests:
        if not request.answer.done():
            request.answer.set_exception(error)
