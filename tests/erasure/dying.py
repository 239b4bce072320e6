"""Erasures in processes of their own, killed at a chosen change of what is stored."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any

from dataflows.erasure import job, online, parquet, served
from tests.erasure.world import World

SECONDS_MAX = 60.0
# Everything that an erasure changes goes through one of these, or through `unlink`.
_CHANGES: tuple[tuple[Any, str], ...] = (
    (job, "write_tombstones"),
    (online, "remove_online"),
    (parquet, "write_day"),
    (served, "remove_served"),
)


def forget_and_die(world: World, who: str, changes: int) -> int:
    """Forget a user in another process, which dies once so many changes were made; its exit code.

    It is a copy of this one, so that nothing has to be loaded; of its threads it needs none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            _forget(world, who, changes)
            os._exit(0)
        finally:
            os._exit(1)
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGABRT)
            os.waitpid(pid, 0)
            raise AssertionError(f"it ran on for {SECONDS_MAX:g} s")
        time.sleep(0.005)


def _forget(world: World, who: str, changes: int) -> None:
    left = [changes]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        return call

    for module, name in _CHANGES:
        setattr(module, name, dying(getattr(module, name)))
    world.forget("user", (who,))
