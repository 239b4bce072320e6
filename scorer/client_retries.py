"""When a call is tried again: the policy, and the state of one call. Sleeps nowhere itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from scorer.client_errors import ScorerCallError

_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
# gRPC has one code for "too busy" and for "too big", and only its own text tells them apart.
_TOO_BIG = "larger than max"
# 2.0 ** 1024 is an OverflowError.
_DOUBLINGS_MAX = 1_000


@dataclass(frozen=True)
class Retries:
    """How often, and after which pauses, a call is tried again.

    Only where the scorer, or the way to it, is out for the moment: UNAVAILABLE (a connection that
    fails is that too) and RESOURCE_EXHAUSTED. Pauses double from one to the next. Each is made
    shorter by chance, by up to a half, so that clients that failed together do not come back
    together.

    Attributes:
        tries_max: all tries of a call, the first among them.
        first_pause_seconds: before the second try.
        pause_seconds_max: no pause is longer.
    """

    tries_max: int = 5
    first_pause_seconds: float = 0.05
    pause_seconds_max: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.tries_max < 1:
            raise ValueError(f"tries_max is {self.tries_max}: give 1 or more")
        if not 0 <= self.first_pause_seconds <= self.pause_seconds_max:
            raise ValueError("give pauses of 0 seconds or more, the first not over the longest")

    def pause_seconds(self, tries: int, chance: float) -> float:
        """The pause after ``tries`` failed tries; ``chance`` is a number from 0 to 1."""
        doubled = self.first_pause_seconds * 2.0 ** min(tries - 1, _DOUBLINGS_MAX)
        return min(doubled, self.pause_seconds_max) * (1 - chance / 2)


SOME_TRIES = Retries()
ONE_TRY = Retries(tries_max=1)


class Tries:
    """The tries of one call, and the time that is left for them."""

    def __init__(
        self,
        retries: Retries,
        deadline_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``deadline_seconds`` from now on is for all tries and pauses together."""
        self._retries = retries
        self._clock = clock
        self._chance = chance
        self._end = clock() + deadline_seconds
        self._tries = 0
        self._cause: ScorerCallError | None = None

    def left_seconds(self) -> float:
        """What is left of the deadline; not below 0."""
        return max(0.0, self._end - self._clock())

    def failed(self, error: grpc.RpcError) -> float:
        """Seconds to wait before the next try.

        Raises:
            ScorerCallError: there is no next one. If only time ran out on the last try, it is the
                error of the one before, which says why there was a second.
        """
        self._tries += 1
        code, details = _told_by(error)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and self._cause is not None:
            code, details = self._cause.code(), self._cause.message
            raise ScorerCallError.of(code, details, self._tries)
        failure = ScorerCallError.of(code, details, self._tries)
        if code not in _RETRIED or _TOO_BIG in details or self._tries >= self._retries.tries_max:
            raise failure
        pause = self._retries.pause_seconds(self._tries, self._chance())
        if pause >= self.left_seconds():
            raise failure
        self._cause = failure
        return pause


def call_error(error: grpc.RpcError) -> ScorerCallError:
    """The error of a call that is not tried again."""
    return ScorerCallError.of(*_told_by(error))


def _told_by(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    assert isinstance(error, grpc.Call | grpc.aio.AioRpcError)
    return error.code(), error.details() or ""
