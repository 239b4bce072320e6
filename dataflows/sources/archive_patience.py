"""How long an archive that is gone is asked again, and which errors mean that it is."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from contracts.log import LogError

_FIRST_PAUSE_SECONDS = 0.1
_PAUSE_SECONDS_MAX = 5.0
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_FINAL_NUMBERS = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP}
# Clients of object stores have errors of their own for what passes; these are words in their names.
_PASSING = re.compile("Timeout|Connect|Payload|Transport|HTTPClient|ServiceRe|Throttl|SlowDown")


_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def warn(what: str) -> None:
    """Write down what is waited for, where nobody else tells it."""
    if what:
        _log.warning("waiting for %s", what)


@dataclass(frozen=True)
class Patience:
    """How long a store that is gone is asked again.

    Attributes:
        seconds: longest time without an answer.
        wait: called with seconds between two tries; true ends the tries.
        tell: called with what is waited for, when that is known and when it changes, and with an
            empty text when that is over.
        monotonic: clock in seconds.
    """

    seconds: float
    wait: Callable[[float], bool | None] = time.sleep
    tell: Callable[[str], None] = warn
    monotonic: Callable[[], float] = time.monotonic


def patiently(work: Callable[[], _T], patience: Patience, who: str) -> _T:
    """What ``work`` gives, called again while it fails with what passes.

    Raises:
        LogError: ``who`` has not answered for too long.
        Exception: whatever else ``work`` raises.
    """
    begin = patience.monotonic()
    pause_seconds = _FIRST_PAUSE_SECONDS
    told = ""
    try:
        while True:
            try:
                return work()
            except Exception as error:
                if not is_passing(error):
                    raise
                what_for = f"{who} to answer ({text_of(error)})"
                if what_for != told:
                    told = what_for
                    patience.tell(told)
                waited = patience.monotonic() - begin
                left = patience.seconds - waited
                if left <= 0 or patience.wait(min(pause_seconds, left)):
                    raise LogError(
                        f"{who} has not answered for {waited:.0f} s ({text_of(error)}); nothing "
                        "is lost: start again when it does (HEADWATER_OUTAGE_SECONDS is how long "
                        "to wait)"
                    ) from error
                pause_seconds = min(2 * pause_seconds, _PAUSE_SECONDS_MAX)
    finally:
        if told:
            patience.tell("")


def is_passing(error: Exception) -> bool:
    """Whether the same may succeed later on."""
    if isinstance(error, _FINAL) or (isinstance(error, OSError) and error.errno in _FINAL_NUMBERS):
        return False
    if isinstance(error, (OSError, TimeoutError)):
        return True
    return any(_PASSING.search(kind.__name__) for kind in type(error).__mro__)


def text_of(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
