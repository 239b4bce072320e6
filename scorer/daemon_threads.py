"""Threads for work that may never end, such as reading a file of a network that is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from scorer.errors import OverloadedError

_Result = TypeVar("_Result")


class DaemonThreads:
    """Runs work as ``asyncio.to_thread`` does, but the process does not wait for it at its end.

    There is a bounded number of threads, and whoever has left counts until his work is done.
    """

    def __init__(self, name: str, threads_max: int) -> None:
        """No thread is started before there is work; ``name`` says what they do."""
        self._name = name
        self._threads_max = threads_max
        self._lock = threading.Lock()
        self._busy = 0

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """What ``work`` gives, or raises. OverloadedError where all threads are busy."""
        with self._lock:
            if self._busy >= self._threads_max:
                raise OverloadedError(f"{self._name} takes too long; try again later")
            self._busy += 1
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_Result] = loop.create_future()

        def settle(result: _Result | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def call() -> None:
            result, raised = None, None
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - it is the caller's
                raised = error
            with self._lock:
                self._busy -= 1
            try:
                loop.call_soon_threadsafe(settle, result, raised)
            except RuntimeError:
                # The loop has ended meanwhile, and nobody waits any more.
                return

        threading.Thread(target=call, name=self._name, daemon=True).start()
        return await done
