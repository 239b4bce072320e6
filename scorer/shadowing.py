"""Scores rows with versions that did not answer them, after the answer, for the log alone.

A shadow's rows, and those that champion and challenger are compared on. Nobody waits for it: it has
a bounded share of the loop's time, and what it cannot keep up with is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import structlog

from scorer.batcher import first_not_finite
from scorer.errors import ScorerError, StoreUnavailableError
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel, Outputs
from scorer.online_store import Cells, OnlineReader, Wanted
from scorer.prediction_log import PredictionLog
from scorer.routing import Rollout, inputs_for
from scorer.scored import ScoredRequest
from scorer.vector import VectorFiller, Vectors
from scorer.vector_plan import check_rows

# So long rows gather: a run of many costs little more than one of a few.
_GATHER_SECONDS = 0.02
# Aimed at for what runs in one go: callers wait for it at worst.
_PIECE_SECONDS = 0.001
_PIECE_ROWS_MAX = 512
_FIRST_ROWS = 32
_TOLD_MAX = 1_000
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """Bounds.

    Attributes:
        rows_max: rows that wait; more are dropped.
        load_max: share of the loop's time, above 0, at most 1.
        read_timeout_seconds: a read of the store is given up after this.
    """

    rows_max: int
    load_max: float
    read_timeout_seconds: float


class _Job(NamedTuple):
    """Rows to score with a version, and how another one answered them."""

    channel: str
    model: LoadedModel
    answered: ScoredRequest
    started: float


class Shadowing:
    """Scores what others answered. All methods are for the event loop."""

    def __init__(
        self,
        reader: OnlineReader,
        predictions: PredictionLog,
        metrics: ScorerMetrics,
        limits: ShadowLimits,
    ) -> None:
        """Nothing is done before ``start``.

        Args:
            reader: of the online store, for versions with other vectors.
            predictions: where the scores go.
            metrics: is told of each row.
            limits: bounds.
        """
        self._reader = reader
        self._predictions = predictions
        self._metrics = metrics
        self._limits = limits
        self._filler = VectorFiller()
        self._lines: dict[tuple[LoadedModel, bool], deque[_Job]] = {}
        self._rows = 0
        self._come = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._rows_of_piece: dict[LoadedModel, int] = {}
        self._enough = _FIRST_ROWS
        self._busy = 0.0
        self._told: set[str] = set()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    def put(
        self, rollout: Rollout, by: LoadedModel, request: ScoredRequest, started: float
    ) -> None:
        """Leave answered rows for the versions that did not answer them. Never waits.

        Args:
            rollout: the versions.
            by: the one that answered.
            request: the answered rows.
            started: ``time.perf_counter()`` when the request came.
        """
        count = len(request.scores)
        for channel, model in rollout.versions:
            if model is by:
                continue
            # Of rows that are many only the last request may go over the bound.
            if self._rows and self._rows + count > self._limits.rows_max:
                self._metrics.shadow_dropped(model.manifest.model, "full", count)
                continue
            self._rows += count
            job = _Job(channel, model, request, started)
            self._lines.setdefault((model, _is_alike(job)), deque()).append(job)
            self._come.set()
            self._idle.clear()

    async def stop(self, timeout_seconds: float) -> None:
        """Score what waits, no longer than that, and count what is left."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for line in self._lines.values():
            for job in line:
                self._drop(job, "stopped")
        self._lines.clear()

    async def _run(self) -> None:
        while True:
            await self._come.wait()
            # What fills a piece already need not gather.
            least_seconds = 0.0 if self._rows >= self._enough else _GATHER_SECONDS
            rest_seconds = rest_after(self._busy, self._limits.load_max)
            await asyncio.sleep(max(least_seconds, rest_seconds))
            self._busy = 0.0
            jobs = self._taken()
            try:
                await self._score(jobs)
            except asyncio.CancelledError:
                for job in jobs:
                    self._drop(job, "stopped")
                raise
            except Exception as error:  # noqa: BLE001 - the next rows have a chance of their own
                self._tell(jobs[0].model, error)
                for job in jobs:
                    self._drop(job, "error")
            if not self._lines:
                self._come.clear()
                self._idle.set()

    def _taken(self) -> list[_Job]:
        """Some that one version scores, of one kind; a request of many rows comes in slices."""
        kind, line = next(iter(self._lines.items()))
        room = self._rows_of_piece.get(kind[0], _FIRST_ROWS)
        taken: list[_Job] = []
        while line and room > 0:
            job = line.popleft()
            if len(job.answered.scores) > room:
                job, rest = _split(job, room)
                line.appendleft(rest)
            room -= len(job.answered.scores)
            taken.append(job)
        del self._lines[kind]
        if line:
            # The others have their turn first.
            self._lines[kind] = line
        return taken

    async def _score(self, jobs: list[_Job]) -> None:
        model = jobs[0].model
        if not self._predictions.has_room:
            # What callers got goes first.
            while jobs:
                self._drop(jobs.pop(), "full")
            return
        if _is_alike(jobs[0]):
            parts = [job.answered.vectors for job in jobs]
        else:
            parts = await self._read_all(jobs)
            if not jobs:
                return
        begun = time.perf_counter()
        matrix = np.concatenate([one.values for one in parts])
        found = model.outputs(np.ascontiguousarray(matrix))
        start = 0
        for job, vectors in zip(list(jobs), parts, strict=True):
            end = start + len(vectors.values)
            # What is done is no longer among those that an error would count.
            jobs.remove(job)
            self._leave(job, vectors, found, slice(start, end))
            start = end
        seconds = time.perf_counter() - begun
        self._busy += seconds
        # A version that is gone must not stay in memory for this.
        if len(self._rows_of_piece) > 8:
            self._rows_of_piece.clear()
        rows = int(_PIECE_SECONDS / seconds * len(matrix)) if seconds else _PIECE_ROWS_MAX
        self._enough = min(max(rows, 1), 2 * len(matrix) + 1, _PIECE_ROWS_MAX)
        self._rows_of_piece[model] = self._enough

    async def _read_all(self, jobs: list[_Job]) -> list[Vectors]:
        """The vectors of jobs, read at the same time: a slow store takes the time of one.

        Those that cannot be read are dropped, and are no longer among ``jobs``.
        """
        found = await asyncio.gather(*map(self._read, jobs), return_exceptions=True)
        kept, parts = [], []
        for job, one in zip(jobs, found, strict=True):
            if isinstance(one, Vectors):
                kept.append(job)
                parts.append(one)
            elif not isinstance(one, ScorerError):
                raise one
        for job, one in zip(jobs, found, strict=True):
            if isinstance(one, ScorerError):
                self._drop(job, "error")
                self._tell(job.model, one)
        jobs[:] = kept
        return parts

    async def _read(self, job: _Job) -> Vectors:
        """The vectors of a version that sees something else of the rows than who answered."""
        begun = time.perf_counter()
        request, plan = job.answered, job.model.plan
        rows = check_rows(plan, 0, [inputs_for(job.model, row) for row in request.inputs])
        wanted = list(dict.fromkeys(one for asked in rows.wanted for one in asked if one))
        self._busy += time.perf_counter() - begun
        try:
            async with asyncio.timeout(self._limits.read_timeout_seconds):
                cells = await self._reader.read_cells(wanted) if wanted else []
        except TimeoutError:
            raise StoreUnavailableError("the online store did not answer in time") from None
        begun = time.perf_counter()
        found: dict[Wanted, Cells] = dict(zip(wanted, cells, strict=True))
        at_us = [request.at_us] * len(rows.given)
        vectors = self._filler.fill(plan, rows.given, rows.wanted, found, at_us, rows.texts)
        self._busy += time.perf_counter() - begun
        for number, why in vectors.refused.items():
            raise StoreUnavailableError(f"rows[{number}]: {why}")
        return vectors

    def _leave(self, job: _Job, vectors: Vectors, found: Outputs, place: slice) -> None:
        """Leave the scores of a job to be written."""
        scores = found.scores[place].tolist()
        probabilities = None if found.probabilities is None else found.probabilities[place]
        if first_not_finite(scores, probabilities) is not None:
            self._drop(job, "error")
            return
        manifest = job.model.manifest
        self._predictions.put(
            job.answered._replace(
                manifest=manifest,
                scores=scores,
                vectors=vectors,
                latency_seconds=time.perf_counter() - job.started,
                probabilities=probabilities,
                channel=job.channel,
                answered=False,
                has_vectors=not _is_alike(job),
            )
        )
        self._rows -= len(scores)
        self._metrics.shadowed(manifest.model, job.channel, len(scores))

    def _drop(self, job: _Job, reason: str) -> None:
        count = len(job.answered.scores)
        self._rows -= count
        self._metrics.shadow_dropped(job.model.manifest.model, reason, count)

    def _tell(self, model: LoadedModel, error: Exception) -> None:
        """Say of each version once that it fails: the metric counts on."""
        about = str(model)
        if about in self._told:
            return
        if len(self._told) >= _TOLD_MAX:
            self._told.clear()
        self._told.add(about)
        _log.warning("shadow_cannot_score", about=about, reason=str(error) or repr(error))


def rest_after(busy_seconds: float, load_max: float) -> float:
    """How many seconds to rest after so much work, that it is at most that share of the time."""
    return busy_seconds * (1 / load_max - 1)


def _is_alike(job: _Job) -> bool:
    """Whether the version sees the very vectors that were scored already."""
    return job.answered.manifest.fingerprint == job.model.manifest.fingerprint


def _split(job: _Job, rows: int) -> tuple[_Job, _Job]:
    """Its first rows, and the rest."""
    return tuple(
        job._replace(
            answered=job.answered._replace(
                inputs=job.answered.inputs[part],
                scores=job.answered.scores[part],
                vectors=job.answered.vectors.part(part.start, part.stop),
                keys=job.answered.keys[part],
                assigned=job.answered.assigned[part],
            )
        )
        for part in (slice(0, rows), slice(rows, len(job.answered.scores)))
    )  # type: ignore[return-value]
