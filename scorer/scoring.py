"""What it is to score with one version: find it, check the rows, read, run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from scorer.batcher import Batcher, first_not_finite
from scorer.calls import Call
from scorer.errors import InvalidRequestError
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel, Outputs
from scorer.model_pool import ModelPool
from scorer.scored import Scored
from scorer.vector import Floats, Vectors
from scorer.vector_plan import CheckedRows, Scalar, check_rows

Rows = Sequence[Mapping[str, Scalar]]
# After so many rows others get their turn: checking a row takes microseconds.
PIECE_ROWS = 512


class Scoring:
    """Scores rows and vectors; knows nothing of gRPC. All methods are for the event loop."""

    def __init__(
        self,
        pool: ModelPool,
        batcher: Batcher,
        metrics: ScorerMetrics,
        rows_max: int,
        clock_us: Callable[[], int],
    ) -> None:
        """Put the parts together.

        Args:
            pool: the models.
            batcher: reads and runs.
            metrics: is told of ages and of what was missing.
            rows_max: rows in one request.
            clock_us: gives the moment of prediction for requests that do not say it, microseconds.
        """
        self._pool = pool
        self._batcher = batcher
        self._metrics = metrics
        self._rows_max = rows_max
        self._clock_us = clock_us

    async def model(
        self, call: Call, name: str, version: str = "", channel: str = ""
    ) -> LoadedModel:
        """The version that a request asks for: by number, or the one of a channel.

        Raises:
            InvalidRequestError: no model named, no such channel, or both version and channel.
            ForbiddenError: the caller may not use the model.
            UnknownModelError: no such model, or no such version of it.
            ModelNotReadyError: the version, or the channel's, cannot be served.
        """
        if not version:
            return self.channel(call, name, channel or "champion")
        self._admit(call, name)
        if channel:
            raise InvalidRequestError("both version and channel are set; leave one of them empty")
        model = await self._pool.version(name, version)
        call.version = model.manifest.version
        return model

    def channel(self, call: Call, name: str, channel: str) -> LoadedModel:
        """The version of a channel; raises as ``model``."""
        self._admit(call, name)
        model = self._pool.channel(name, channel)
        call.version = model.manifest.version
        return model

    async def score(self, call: Call, model: LoadedModel, rows: Rows, at_us: int) -> Scored:
        """Read features for the rows and score them with one version, as of event time ``at_us``.

        Raises:
            InvalidRequestError: no rows, too many, or one that cannot be scored.
            OverloadedError: too much is in flight.
            StoreUnavailableError: the online store failed, or took too long.
            ModelFaultError: the model failed.
        """
        scores: list[float] = []
        parts: list[Vectors] = []
        probabilities: list[Floats] = []
        for start, piece in await self._checked(call, model, rows):
            try:
                scored = await self._batcher.score(model, piece, at_us)
            except InvalidRequestError as error:
                raise renumbered(error, start) from None
            call.read_at = call.read_at or scored.read_at
            call.run_at = call.run_at or scored.run_at
            scores += scored.scores
            parts.append(scored.vectors)
            if scored.probabilities is not None:
                probabilities.append(scored.probabilities)
        vectors = Vectors.joined(parts)
        self._tell(call, model, vectors, at_us)
        return Scored(
            model,
            scores,
            vectors,
            at_us,
            np.concatenate(probabilities) if probabilities else None,
        )

    async def vectors(
        self, call: Call, model: LoadedModel, rows: Rows, at_us: int | None
    ) -> Vectors:
        """The vectors that ``score`` would score; raises as it does."""
        at_us = self._clock_us() if at_us is None else at_us
        pieces = await self._checked(call, model, rows)
        return Vectors.joined(
            [await self._batcher.vectors(model, piece, at_us) for _, piece in pieces]
        )

    async def score_vectors(
        self, call: Call, model: LoadedModel, matrix: NDArray[np.float64]
    ) -> Outputs:
        """Score vectors that the caller brings, float64[N, W]; nothing is read and nothing logged.

        Raises:
            InvalidRequestError: no rows, too many, another width, or values that are not finite or
                too large for a finite score.
            ModelFaultError: the model failed.
        """
        if matrix.ndim != 2 or matrix.shape[1] != model.plan.width:
            raise InvalidRequestError(
                f"vectors of shape {list(matrix.shape)}; this model takes [rows, "
                f"{model.plan.width}]"
            )
        self.check_count(call, len(matrix))
        if not np.isfinite(matrix).all():
            row, column = (int(place[0]) for place in (~np.isfinite(matrix)).nonzero())
            name = model.manifest.schema.names[column]
            raise InvalidRequestError(f"rows[{row}]: field {name!r} is not a finite number")
        found: list[Outputs] = []
        for start in range(0, len(matrix), PIECE_ROWS):
            if start:
                await asyncio.sleep(0)
            piece = model.outputs(np.ascontiguousarray(matrix[start : start + PIECE_ROWS]))
            number = first_not_finite(piece.scores.tolist(), piece.probabilities)
            if number is not None:
                raise InvalidRequestError(
                    f"rows[{start + number}]: its values are too large for the model to compute a"
                    " score"
                )
            found.append(piece)
        self._metrics.ran(model.manifest.model, len(matrix))
        probabilities = [one.probabilities for one in found if one.probabilities is not None]
        return Outputs(
            np.concatenate([one.scores for one in found]),
            np.concatenate(probabilities) if probabilities else None,
        )

    def _admit(self, call: Call, name: str) -> None:
        if not name:
            raise InvalidRequestError("no model named: set `model`")
        call.model = name
        # Before all else that is told of it: a caller need not learn which models there are.
        call.caller.check(name)

    def room(self, rows: int) -> AbstractContextManager[None]:
        """Room for all rows of a request until it is answered. OverloadedError if there is none."""
        return self._batcher.row_room.keep(rows)

    def check_count(self, call: Call, rows: int) -> None:
        """Raise InvalidRequestError for no rows, or too many; ``call`` learns how many."""
        call.rows = rows
        if not rows:
            raise InvalidRequestError("no rows: give at least one row to score")
        if rows > self._rows_max:
            raise InvalidRequestError(
                f"{rows} rows, at most {self._rows_max} in one request: split it"
            )

    async def _checked(
        self, call: Call, model: LoadedModel, rows: Rows
    ) -> list[tuple[int, CheckedRows]]:
        """(number of its first row, rows) of each piece."""
        self.check_count(call, len(rows))
        pieces = []
        for start in range(0, len(rows), PIECE_ROWS):
            if start:
                await asyncio.sleep(0)
            checked = check_rows(model.plan, start, rows[start : start + PIECE_ROWS])
            pieces.append((start, checked))
        return pieces

    def _tell(self, call: Call, model: LoadedModel, vectors: Vectors, at_us: int) -> None:
        """Fill in what the call's line in the log, its trace and the metrics say."""
        name = model.manifest.model
        missing = sum(map(len, vectors.missing))
        if missing:
            # Rows of one request may be those of two versions.
            call.missing += missing
            self._metrics.missing(name, model.plan, vectors.missing)
        oldest = min((one for one in vectors.oldest_us if one is not None), default=None)
        newest = max((one for one in vectors.newest_us if one is not None), default=None)
        if oldest is not None and newest is not None:
            oldest_seconds = (at_us - oldest) / 1e6
            if call.oldest_age_seconds is None or call.oldest_age_seconds < oldest_seconds:
                call.oldest_age_seconds = oldest_seconds
            self._metrics.aged(name, oldest_seconds, (at_us - newest) / 1e6)


def renumbered(error: InvalidRequestError, rows: int | Sequence[int]) -> InvalidRequestError:
    """The error of a piece, with the row's number in the whole request.

    Args:
        error: of the piece.
        rows: number of its first row, or the numbers of all its rows.
    """
    if rows == 0:
        return error
    head, _, rest = str(error).partition("]")
    number = int(head.removeprefix("rows["))
    number = number + rows if isinstance(rows, int) else rows[number]
    return InvalidRequestError(f"rows[{number}]{rest}")
