"""Answers requests for scores: by the version asked for, or by whom each row is assigned to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import structlog

from scorer.calls import Call
from scorer.errors import InvalidRequestError, ModelFaultError, StoreUnavailableError
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel
from scorer.model_pool import ModelPool
from scorer.prediction_log import PredictionLog, new_request_id
from scorer.routing import CHALLENGER, CHAMPION, Rollout, inputs_for
from scorer.scored import Answer, Part, ScoredRequest, whole
from scorer.scoring import PIECE_ROWS, Rows, Scoring, renumbered
from scorer.shadowing import Shadowing
from scorer.vector_plan import Scalar

_TOLD_MAX = 1_000
_log = structlog.get_logger()


class Target(NamedTuple):
    """What a request asks for.

    Attributes:
        model: the version, or the champion where others may answer too.
        channel: whose version it is; empty where it was asked for by its number.
        is_free: whether the request left it to us which version answers.
        rollout: who answers what; None where ``model`` answers everything and is alone.
    """

    model: LoadedModel
    channel: str
    is_free: bool
    rollout: Rollout | None


class Asked(NamedTuple):
    """Rows to score.

    Attributes:
        rows: input name -> value, of each row.
        keys: of the predictions, one for each row; empty texts where there are none.
        at_us: moment of prediction, event time, microseconds since 1970 UTC; None is now.
    """

    rows: Rows
    keys: Sequence[str]
    at_us: int | None


class Answering:
    """Answers requests, and leaves them to be written. All methods are for the event loop."""

    def __init__(
        self,
        scoring: Scoring,
        pool: ModelPool,
        metrics: ScorerMetrics,
        clock_us: Callable[[], int],
        predictions: PredictionLog | None,
        shadowing: Shadowing | None,
    ) -> None:
        """Put the parts together.

        Args:
            scoring: scores with one version.
            pool: knows who answers what.
            metrics: is told who answered.
            clock_us: gives the moment of prediction for requests that do not say it, microseconds.
            predictions: where scored requests go; None for nowhere.
            shadowing: scores what others answered; None for nobody.
        """
        self._scoring = scoring
        self._pool = pool
        self._metrics = metrics
        self._clock_us = clock_us
        self._predictions = predictions
        self._shadowing = shadowing
        self._told: set[str] = set()

    async def target(self, call: Call, name: str, version: str, channel: str) -> Target:
        """As ``Scoring.model``, and who else may answer; raises as it does."""
        if version or channel:
            model = await self._scoring.model(call, name, version, channel)
            return Target(model, channel, False, None)
        return self.free_target(call, name)

    def free_target(self, call: Call, name: str) -> Target:
        """The same for a request that names neither version nor channel."""
        model = self._scoring.channel(call, name, CHAMPION)
        rollout = self._pool.rollout(name)
        return Target(rollout.champion if rollout else model, CHAMPION, True, rollout)

    async def score(self, call: Call, target: Target, asked: Asked) -> Answer:
        """Read features for the rows and score them, and leave it in the log.

        Args:
            call: learns what is to be told of it.
            target: what is asked for.
            asked: the rows.

        Raises:
            InvalidRequestError: no rows, too many, or one that cannot be scored.
            OverloadedError: too much is in flight.
            StoreUnavailableError: the online store failed, or took too long.
            ModelFaultError: the model failed.
        """
        came_us = self._clock_us()
        at_us = came_us if asked.at_us is None else asked.at_us
        if target.rollout is None:
            scored = await self._scoring.score(call, target.model, asked.rows, at_us)
            answer = Answer((Part(target.channel, range(len(asked.rows)), scored),))
        else:
            self._scoring.check_count(call, len(asked.rows))
            answer = await self._routed(call, target.rollout, asked, at_us)
        for part in answer.parts:
            self._metrics.answered(target.model.manifest.model, part.channel, len(part.rows))
        if self._predictions is not None:
            self._leave(call, target, asked, answer, came_us)
        return answer

    async def _routed(self, call: Call, rollout: Rollout, asked: Asked, at_us: int) -> Answer:
        """Each row scored by the version that it is assigned to."""
        rows = asked.rows
        request_id = call.request_id if len(rows) == 1 else ""
        challenged: list[bool] = []
        for start in range(0, len(rows), PIECE_ROWS):
            if start:
                await asyncio.sleep(0)
            end = start + PIECE_ROWS
            challenged += rollout.assigned(request_id, rows[start:end], asked.keys[start:end])
        theirs = [number for number, is_theirs in enumerate(challenged) if is_theirs]
        shown = challenged if rollout.share > 0 else ()
        if not theirs:
            scored = await self._scoring.score(call, rollout.champion, rows, at_us)
            return whole(scored, CHAMPION)._replace(challenged=shown)
        if len(theirs) == len(rows):
            part = await self._challenged(call, rollout, rows, theirs, at_us)
            call.version = part.scored.model.manifest.version
            return Answer((part,), shown)
        ours = [number for number, is_theirs in enumerate(challenged) if not is_theirs]
        try:
            # Both at once: they share a read.
            parts = await asyncio.gather(
                self._championed(call, rollout, rows, ours, at_us),
                self._challenged(call, rollout, rows, theirs, at_us),
            )
        finally:
            # Each of them took its own rows for all.
            call.rows = len(rows)
        return Answer(parts, shown)

    async def _championed(
        self, call: Call, rollout: Rollout, rows: Rows, numbers: list[int], at_us: int
    ) -> Part:
        try:
            chosen = [rows[number] for number in numbers]
            scored = await self._scoring.score(call, rollout.champion, chosen, at_us)
        except InvalidRequestError as error:
            raise renumbered(error, numbers) from None
        return Part(CHAMPION, numbers, scored)

    async def _challenged(
        self, call: Call, rollout: Rollout, rows: Rows, numbers: list[int], at_us: int
    ) -> Part:
        """Rows that are the challenger's; the champion answers them if it cannot."""
        champion, challenger = rollout.champion, rollout.challenger
        name, why = champion.manifest.model, "it is not loaded"
        if challenger is not None:
            is_alike = challenger.manifest.fingerprint == champion.manifest.fingerprint
            chosen: list[Mapping[str, Scalar]] = [rows[number] for number in numbers]
            for place in range(0 if is_alike else len(chosen)):
                if place and place % PIECE_ROWS == 0:
                    await asyncio.sleep(0)
                chosen[place] = inputs_for(challenger, chosen[place])
            try:
                scored = await self._scoring.score(call, challenger, chosen, at_us)
                return Part(CHALLENGER, numbers, scored)
            except (InvalidRequestError, ModelFaultError) as error:
                why = str(error)
            except StoreUnavailableError as error:
                if is_alike:
                    raise
                why = str(error)
        # Where it fails too, the rows are at fault.
        part = await self._championed(call, rollout, rows, numbers, at_us)
        self._metrics.fell_back(name, len(numbers))
        about = str(challenger or name)
        if about not in self._told:
            # Once is enough: the metric counts on.
            if len(self._told) >= _TOLD_MAX:
                self._told.clear()
            self._told.add(about)
            _log.warning("challenger_cannot_score", about=about, reason=why, answers="champion")
        return part

    def _leave(
        self, call: Call, target: Target, asked: Asked, answer: Answer, came_us: int
    ) -> None:
        """Leave an answer to be written, and to be scored by the versions that did not answer."""
        assert self._predictions is not None
        rollout, request_id = target.rollout, call.request_id
        if not self._predictions.takes(request_id, len(asked.rows)):
            return
        if rollout is not None and not request_id:
            # Several records will have it in common.
            request_id = new_request_id()
        latency = time.perf_counter() - call.started
        for part in answer.parts:
            scored = part.scored
            rows, keys = asked.rows, asked.keys
            assigned = CHAMPION if target.is_free else ""
            channels = [assigned] * len(part.rows)
            if rollout is not None:
                rows = [rows[number] for number in part.rows]
                keys = [keys[number] for number in part.rows]
                if len(asked.rows) > 1 and not all(keys):
                    # A record of one row would seem to be that of a request of one.
                    keys = [
                        key or f"{request_id}#{number}"
                        for key, number in zip(keys, part.rows, strict=True)
                    ]
                if answer.challenged:
                    channels = [
                        CHALLENGER if answer.challenged[number] else CHAMPION
                        for number in part.rows
                    ]
            request = ScoredRequest(
                request_id,
                scored.model.manifest,
                rows,
                scored.scores,
                scored.vectors,
                came_us,
                scored.at_us,
                latency,
                keys,
                channels,
                scored.probabilities,
                part.channel,
            )
            self._predictions.put(request)
            if rollout is not None and self._shadowing is not None:
                self._shadowing.put(rollout, scored.model, request, call.started)
