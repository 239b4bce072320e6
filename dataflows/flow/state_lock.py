"""Who may use a state folder: one process alone, or one process of each number of several."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from dataflows.flow.errors import EngineError

# `headwater status` holds a lock for an instant, to see whether anybody does.
_INSTANT_SECONDS = 0.3
_PAUSE_SECONDS = 0.01
_ADVICE = "stop it first, or set HEADWATER_STATE_DIR to another folder"
_KEPT: list[ExitStack] = []


@contextmanager
def exclusive_state(state: Path) -> Iterator[None]:
    """Hold the state folder for this process alone; raise EngineError if another one has it."""
    with _opened(state, _whole(state)) as lock:
        if not taken(lock, fcntl.LOCK_EX):
            raise EngineError(f"another dataflow is running on {state}; {_ADVICE}")
        yield


@contextmanager
def shared_state(state: Path, process: int) -> Iterator[Callable[[], None]]:
    """Hold the state folder as the process of this number, beside those of other numbers.

    Yields:
        What keeps the place for as long as this process lives, not only as long as the context.

    Raises:
        EngineError: a process has the folder alone, or another one has the number.
    """
    with ExitStack() as locks:
        whole = locks.enter_context(_opened(state, _whole(state)))
        if not taken(whole, fcntl.LOCK_SH):
            raise EngineError(f"a dataflow of a single process is running on {state}; {_ADVICE}")
        seat = locks.enter_context(_opened(state, _seat(state, process)))
        if not taken(seat, fcntl.LOCK_EX):
            raise EngineError(
                f"another process {process} is running on {state}; set HEADWATER_PROCESS to "
                "another number, or stop it first"
            )
        yield lambda: _KEPT.append(locks.pop_all())


def processes_folder(state: Path) -> Path:
    """Where the processes that share a state folder tell each other how they are."""
    return state.with_name(state.name + ".processes")


def is_held(state: Path) -> bool:
    """Whether any process runs on the state folder."""
    return is_locked(_whole(state)) or bool(held_seats(state))


def held_seats(state: Path) -> list[int]:
    """Numbers of the processes that share the state folder now."""
    paths = processes_folder(state).glob("*.lock")
    return sorted(int(path.stem) for path in paths if path.stem.isdecimal() and is_locked(path))


def is_seat_held(state: Path, process: int) -> bool:
    """Whether the process of this number runs."""
    return is_locked(_seat(state, process))


def _whole(state: Path) -> Path:
    # Beside the folder, not in it: a replay puts another folder in its place.
    return state.with_name(state.name + ".lock")


def _seat(state: Path, process: int) -> Path:
    return processes_folder(state) / f"{process}.lock"


def _opened(state: Path, path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")
    except OSError as error:
        raise EngineError(f"state folder {state}: {error.strerror}") from error


def taken(lock: IO[str], kind: int) -> bool:
    """Whether we have it; one who holds it for no longer than an instant is waited for."""
    give_up_at = time.monotonic() + _INSTANT_SECONDS
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                return False
            time.sleep(_PAUSE_SECONDS)
        else:
            return True


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock for itself."""
    try:
        lock = path.open("r")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
