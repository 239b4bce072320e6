"""Plays flights through a running system: appends to the log and scores, as a client would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.demo.flight_log import Step, append_lines
from cli.demo.flights import SCHEDULED_TOPIC
from cli.demo.processes import DemoError
from scorer.client import AsyncScorerClient, ScoreOptions, ScorerClient

WATERMARK_SECONDS_MAX = 30.0
_POLL_SECONDS = 0.001


@dataclass(frozen=True)
class Served:
    """One score as the client got it.

    Attributes:
        flight_id: the flight that was scored.
        at_us: its scheduled departure, microseconds since 1970 UTC.
        inputs: what was sent: entity keys and request fields.
        waited: whether the player waited for the online store to be up to date.
        version: of the model.
        score: P(late).
        features: the vector as scored, in the order of the model's schema.
        latency_ms: from the call to its answer, milliseconds.
    """

    flight_id: str
    at_us: int
    inputs: dict[str, Any]
    waited: bool
    version: str
    score: float
    features: tuple[float, ...]
    latency_ms: float


@dataclass(frozen=True)
class Pace:
    """How to play.

    Attributes:
        days: how many days (UTC) before the end of the data the play begins.
        waiting_days: for how many of them the player waits for the watermark before it scores.
        time_lapse: how much faster than the world it plays the others.
    """

    days: int
    waiting_days: int
    time_lapse: float


class Player:
    """One client of one scorer and one producer to one log."""

    def __init__(
        self,
        log: Path,
        address: str,
        model: str,
        online_us: Callable[[], int],
        check: Callable[[], None],
    ) -> None:
        """``online_us`` tells up to which event time the online store is complete.

        ``check`` raises DemoError when the dataflow has ended.
        """
        self._check = check
        self._log = log
        self._address = address
        self._model = model
        self._online_us = online_us
        with ScorerClient(address) as client:
            self._inputs = [field.name for field in client.model(model).inputs]

    def play(
        self, steps: Iterable[Step], paced_from_us: int, pace: Pace, on_step: Callable[[Step], None]
    ) -> list[Served]:
        """Play the steps in order: waiting before ``paced_from_us``, at their pace from there on.

        Raises:
            DemoError: the dataflow does not come to the watermark.
        """
        return asyncio.run(self._play(steps, paced_from_us, pace, on_step))

    async def _play(
        self, steps: Iterable[Step], paced_from_us: int, pace: Pace, on_step: Callable[[Step], None]
    ) -> list[Served]:
        served: list[Served] = []
        began: float | None = None
        async with AsyncScorerClient(self._address) as client:
            for step in steps:
                waits = step.at_us < paced_from_us
                if not waits:
                    began = time.monotonic() if began is None else began
                    due = began + (step.at_us - paced_from_us) / 1e6 / pace.time_lapse
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                append_lines(self._log, {**step.updates, SCHEDULED_TOPIC: step.scheduled})
                if waits:
                    await self._wait(step.at_us)
                calls = [self._score(client, flight, step.at_us, waits) for flight in step.flights]
                served += await asyncio.gather(*calls)
                on_step(step)
        return served

    async def _wait(self, until_us: int) -> None:
        deadline = time.monotonic() + WATERMARK_SECONDS_MAX
        while self._online_us() < until_us:
            if time.monotonic() > deadline:
                raise DemoError("the dataflow does not get on; see run.log in the demo's folder")
            self._check()
            await asyncio.sleep(_POLL_SECONDS)

    async def _score(
        self, client: AsyncScorerClient, flight: dict[str, Any], at_us: int, waited: bool
    ) -> Served:
        row = {name: flight[name] for name in self._inputs}
        options = ScoreOptions(
            request_id=flight["flight_id"], event_time_us=at_us, include_features=True
        )
        begun = time.perf_counter()
        answer = await client.score(self._model, [row], options)
        latency_ms = (time.perf_counter() - begun) * 1000
        return Served(
            flight_id=flight["flight_id"],
            at_us=at_us,
            inputs=row,
            waited=waited,
            version=answer.version,
            score=answer.scores[0],
            features=tuple(answer.features[0]),
            latency_ms=latency_ms,
        )
