"""One process at a time per state folder."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dataflows.flow.errors import EngineError

# `headwater status` holds the lock for an instant, to see whether anybody does.
_INSTANT_SECONDS = 0.3
_PAUSE_SECONDS = 0.01


@contextmanager
def exclusive_state(state: Path) -> Iterator[None]:
    """Hold the state folder for this process; raise EngineError if another one has it."""
    # Beside the folder, not in it: a replay puts another folder in its place.
    path = state.with_name(state.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise EngineError(f"state folder {state}: {error.strerror}") from error
    with lock:
        if not _taken(lock):
            raise EngineError(
                f"another dataflow is running on {state}; stop it first, or set "
                "HEADWATER_STATE_DIR to another folder"
            )
        yield


def _taken(lock: IO[str]) -> bool:
    """Whether we have it; one who holds it for no longer than an instant is waited for."""
    give_up_at = time.monotonic() + _INSTANT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                return False
            time.sleep(_PAUSE_SECONDS)
        else:
            return True
