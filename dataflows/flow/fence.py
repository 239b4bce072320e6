"""How what takes over from a running dataflow makes it end, and makes sure that it has.

Who rebuilds or changes what a state folder stands for holds ``STATE.rebuild.lock``, so there is one
at a time. When it is ready it writes ``STATE.fence.json``; every process of the dataflow looks
there, ends in good order and says why. Only who then holds the state folder writes anything. A
fence without its holder (which was killed) fences nobody.
"""

from __future__ import annotations

import fcntl
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from contracts.durable_files import replace_file
from contracts.log import LogError
from dataflows.flow.errors import EngineError
from dataflows.flow.state_lock import exclusive_state, is_held, is_locked, taken
from dataflows.stores.online_writer import OnlineStoreGoneError

_LOOK_SECONDS = 0.1
_PAUSE_SECONDS = 0.02
# Fences of this very process. Containers that share a folder may have the same process ids.
_OURS: set[str] = set()


class FencedError(EngineError):
    """Something else takes over from this dataflow; the message says what, and what to do."""


class _Fence(msgspec.Struct):
    token: str
    reason: str


@contextmanager
def rebuilding(state: Path) -> Iterator[None]:
    """Be the one who rebuilds or changes what this state folder stands for.

    Raises:
        EngineError: another process is.
    """
    path = _lock_path(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        if not taken(lock, fcntl.LOCK_EX):
            raise EngineError(
                f"a replay or an erasure is under way on {state}; wait for its end, or stop it"
            )
        # What an earlier one left behind when it was killed.
        _fence_path(state).unlink(missing_ok=True)
        yield


@contextmanager
def fenced(state: Path, reason: str, patience_seconds: float) -> Iterator[None]:
    """Make a running dataflow end, and hold the state folder alone; within ``rebuilding``.

    Args:
        state: the state folder.
        reason: who takes over, for the dataflow's last words: "a replay".
        patience_seconds: longest wait for its end.

    Raises:
        EngineError: it does not end; nothing has changed then.
    """
    fence, token = _fence_path(state), secrets.token_hex(16)
    _OURS.add(token)
    try:
        replace_file(fence, msgspec.json.encode(_Fence(token, reason)))
        with _once_free(state, patience_seconds):
            yield
    finally:
        fence.unlink(missing_ok=True)
        _OURS.discard(token)


def check_fence(state: Path) -> None:
    """Raise FencedError if something else than this process takes over from the dataflow."""
    reason = _fenced_by(state)
    if reason is not None:
        raise _fenced_off(reason)


@contextmanager
def looking_for_fence(state: Path, stop: threading.Event) -> Iterator[None]:
    """Set ``stop`` once the state folder is fenced; at the end of the context say so.

    Who waits for a log or a store is to give up then, and raises what it was waiting for.

    Raises:
        FencedError: it was, and the run is over, or gave up waiting before it began.
    """
    is_over = threading.Event()
    found: list[str] = []

    def look() -> None:
        while not is_over.wait(_LOOK_SECONDS):
            reason = _fenced_by(state)
            if reason is not None:
                found.append(reason)
                stop.set()
                return

    looker = threading.Thread(target=look, name="fence", daemon=True)
    looker.start()
    try:
        yield
    except (LogError, OnlineStoreGoneError) as error:
        if found:
            raise _fenced_off(found[0]) from error
        raise
    finally:
        is_over.set()
        looker.join(1.0)
    if found:
        raise _fenced_off(found[0])


@contextmanager
def _once_free(state: Path, patience_seconds: float) -> Iterator[None]:
    give_up_at = time.monotonic() + patience_seconds
    while is_held(state) and time.monotonic() < give_up_at:
        time.sleep(_PAUSE_SECONDS)
    with ExitStack() as holding:
        while True:
            try:
                holding.enter_context(exclusive_state(state))
                break
            except EngineError as error:
                # One that is started anew looks at the fence and lets go again.
                if time.monotonic() > give_up_at:
                    raise EngineError(
                        f"the dataflow on {state} did not end when it was asked to: stop it, and "
                        "start again; nothing has changed"
                    ) from error
        yield


def _fenced_off(reason: str) -> FencedError:
    return FencedError(
        f"{reason} takes over from this dataflow, which has ended with all of its state saved; "
        "start `headwater run` when that is done"
    )


def _fenced_by(state: Path) -> str | None:
    """Who fences the folder, if that is alive and another process than this one."""
    try:
        fence = msgspec.json.decode(_fence_path(state).read_bytes(), type=_Fence)
    except (OSError, msgspec.DecodeError):
        return None
    if fence.token in _OURS or not is_locked(_lock_path(state)):
        return None
    return fence.reason


def _lock_path(state: Path) -> Path:
    return state.with_name(state.name + ".rebuild.lock")


def _fence_path(state: Path) -> Path:
    return state.with_name(state.name + ".fence.json")
