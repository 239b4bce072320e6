"""Waiting for an online store that is gone: again and again, for a time that is bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dataflows.flow.run_context import RunContext
from dataflows.stores.online_writer import OnlineStoreGoneError

X = TypeVar("X")

_FIRST_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 1.0


def patiently(work: Callable[[], X], context: RunContext, who: str, tell: Callable[[], None]) -> X:
    """What ``work`` gives, called again and again while the store is gone.

    Whoever calls stands still meanwhile, which in a flow is the back-pressure that is wanted.

    Args:
        work: to be done; may be done again after it raised OnlineStoreGoneError.
        context: says how long to wait, when to stop, and shows what is waited for.
        who: waits, as a key of ``context.waiting``; no other waits under the same name.
        tell: writes the progress down, so that others see what is waited for.

    Raises:
        OnlineStoreGoneError: it was gone for ``outage_seconds``, or the run is to stop.
    """
    gone_at: float | None = None
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        try:
            done = work()
        except OnlineStoreGoneError as error:
            now = context.monotonic()
            if gone_at is None:
                gone_at = now
            context.waiting[who] = error.problem
            tell()
            if now - gone_at > context.settings.outage_seconds or context.stop.wait(pause_seconds):
                raise
            pause_seconds = min(2 * pause_seconds, _PAUSE_SECONDS_MAX)
        else:
            if gone_at is not None:
                context.waiting.pop(who, None)
                tell()
            return done
