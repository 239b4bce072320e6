"""Keeps what Rust says at length from the terminal.

An error in a flow of one worker is a panic to Bytewax, and so is a recovery store that finds no
room; Rust prints either with its backtrace at once, whoever catches the error afterwards.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from typing import IO

_STDERR = 2
_SAID_BYTES_MAX = 64 * 1024
_PANIC = (b"panicked at", b"stack backtrace", b"Traceback (most recent call last)")


def speak_apart() -> None:
    """Give Python's standard error a descriptor of its own, so that Rust's alone can be hushed.

    Where it has one already, or none at all, nothing changes.
    """
    try:
        is_shared = sys.stderr.fileno() == _STDERR
    except (AttributeError, OSError, ValueError):
        return
    if is_shared:
        sys.stderr.flush()
        encoding, errors = sys.stderr.encoding, sys.stderr.errors
        own = os.dup(_STDERR)
        sys.stderr = os.fdopen(own, "w", buffering=1, encoding=encoding, errors=errors)


class Hush:
    """What is written to descriptor 2 while a flow runs is kept back, and said at its end.

    But for what Rust says of a panic: whoever catches the error says that in a line.

    Where Python speaks there too, only from ``begin`` on: from an error in the flow's own code to
    where Bytewax hands it on.
    """

    def __init__(self) -> None:
        self._stderr: int | None = None
        self._said: IO[bytes] | None = None

    def __enter__(self) -> Hush:
        """Hush at once if Python speaks elsewhere."""
        with suppress(AttributeError, OSError, ValueError):
            if sys.stderr.fileno() != _STDERR:
                self._hush()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Standard error is as it was, and what was kept back is said, if it was no panic."""
        stderr, said = self._stderr, self._said
        self._stderr = self._said = None
        if stderr is None or said is None:
            return
        os.dup2(stderr, _STDERR)
        os.close(stderr)
        with said, suppress(OSError):
            said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID_BYTES_MAX))
            text = said.read()
            if error is None or not any(mark in text for mark in _PANIC):
                os.write(_STDERR, text)

    def begin(self, error: BaseException) -> None:
        """Let nothing through; the first error counts, others follow from it."""
        with suppress(AttributeError, OSError, ValueError):
            sys.stderr.flush()
        self._hush()

    def _hush(self) -> None:
        if self._stderr is not None:
            return
        # Without descriptors left, or without a standard error, it is said at length.
        with suppress(OSError):
            said = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it stays open meanwhile
            stderr = os.dup(_STDERR)
            os.dup2(said.fileno(), _STDERR)
            self._stderr, self._said = stderr, said
