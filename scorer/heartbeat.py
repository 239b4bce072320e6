"""An event loop that beats while it turns, and what ends a process whose loop does not any more.

A function in the definitions that never returns holds the loop, and no Python of ours can stop it;
a process that is stopped from outside does not even know.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import select
from contextlib import suppress

_BEAT = b"\0"
_EVERY_SECONDS_MAX = 1.0
_BEATS = 4
_STDERR = 2
_PIPE_BYTES = 65_536


class Heart:
    """Beats in an event loop. Without a beat for too long the process ends, saying where it was."""

    def __init__(self, stuck_seconds: float, pipe: int | None) -> None:
        """``stuck_seconds`` is how long it may miss; 0 for any. Each beat is told to ``pipe``."""
        self._stuck_seconds = stuck_seconds
        self._pipe = pipe
        self._every_seconds = min(_EVERY_SECONDS_MAX, stuck_seconds / _BEATS)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat in the running loop, until ``stop``."""
        if self._stuck_seconds:
            self._beat(asyncio.get_running_loop())

    def stop(self) -> None:
        """Beat no more, and nobody minds."""
        if self._timer is not None:
            self._timer.cancel()
            faulthandler.cancel_dump_traceback_later()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        # It needs no interpreter, which a function in C may hold for ever as well.
        faulthandler.dump_traceback_later(self._stuck_seconds, exit=True, file=_STDERR)
        # Who listens there may be stopped, or gone.
        if self._pipe is not None and select.select([], [self._pipe], [], 0)[1]:
            with suppress(OSError):
                os.write(self._pipe, _BEAT)
        self._timer = loop.call_later(self._every_seconds, self._beat, loop)


class Pulse:
    """What another process hears of a heart."""

    def __init__(
        self,
        pipe: int,
        start_seconds_max: float,
        silence_seconds_max: float,
        look_seconds_max: float,
    ) -> None:
        """Nothing is heard yet.

        Args:
            pipe: where the beats arrive.
            start_seconds_max: so long may pass before the first one.
            silence_seconds_max: so long may pass between two of them.
            look_seconds_max: what passes between two looks counts as this at most: whoever looks
                may have been stopped together with the other one.
        """
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._seconds_max = start_seconds_max
        self._silence_seconds_max = silence_seconds_max
        self._look_seconds_max = look_seconds_max
        self._looked_at: float | None = None
        self._silent_seconds = 0.0

    def is_lost(self, now: float) -> bool:
        """Whether it has been silent for too long; told once each time.

        ``now`` is of a clock that never goes back, seconds.
        """
        if _BEAT in self._heard():
            self._seconds_max = self._silence_seconds_max
            self._silent_seconds = 0.0
        elif self._looked_at is not None:
            self._silent_seconds += min(now - self._looked_at, self._look_seconds_max)
        self._looked_at = now
        if self._silent_seconds <= self._seconds_max:
            return False
        self._silent_seconds = 0.0
        return True

    def _heard(self) -> bytes:
        """What has arrived: beats, and what functions in the definitions print."""
        try:
            return os.read(self._pipe, _PIPE_BYTES)
        except OSError:
            return b""
