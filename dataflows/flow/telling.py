"""Tells of progress in a thread of its own: even a small file may have to wait for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable

_CLOSE_SECONDS_MAX = 30.0


class Telling:
    """Calls ``tell`` soon after it is asked to, once for all that asked meanwhile.

    Any thread may ask. What goes wrong in ``tell`` is raised by the next call of any method.
    """

    def __init__(self, tell: Callable[[], None], pause_seconds: float) -> None:
        """Start the thread; ``pause_seconds`` lie between two words of it at the least."""
        self._tell = tell
        self._pause_seconds = pause_seconds
        self._state = threading.Condition()
        self._is_asked = self._is_closing = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Have it told; does not wait."""
        with self._state:
            if self._failure is not None:
                raise self._failure
            if not self._is_asked:
                self._is_asked = True
                self._state.notify_all()

    def close(self) -> None:
        """End the thread, which tells before what it was asked for; raise what went wrong."""
        with self._state:
            self._is_closing = True
            self._state.notify_all()
        self._thread.join(_CLOSE_SECONDS_MAX)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while self._is_wanted():
                self._tell()
                with self._state:
                    self._state.wait_for(lambda: self._is_closing, self._pause_seconds)
        except BaseException as error:  # noqa: BLE001 - whoever asks next raises it
            with self._state:
                self._failure = error

    def _is_wanted(self) -> bool:
        """Wait until it is asked for; False at the end."""
        with self._state:
            self._state.wait_for(lambda: self._is_asked or self._is_closing)
            is_wanted, self._is_asked = self._is_asked, False
            return is_wanted
