"""Files of keys and certificates that change under a running process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from contracts.durable_files import read_regular
from scorer.daemon_threads import DaemonThreads
from scorer.errors import ConfigurationError

# Keys and certificates have some thousands; whatever is larger was named by mistake.
FILE_BYTES_MAX = 1024 * 1024
LOOK_SECONDS = 1.0
_log = structlog.get_logger()
_Value = TypeVar("_Value", covariant=True)


@dataclass(frozen=True)
class NamedFile:
    """A file and the setting that names it.

    Attributes:
        setting: name of the environment variable, for errors.
        path: where it is.
    """

    setting: str
    path: Path

    def read(self) -> bytes:
        """All of it; ConfigurationError if that cannot be had, or is far too much."""
        try:
            content = read_regular(self.path, FILE_BYTES_MAX + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no name of a file"
            raise ConfigurationError(
                f"{self.setting}={self.path}: cannot be read: {reason}"
            ) from error
        if len(content) > FILE_BYTES_MAX:
            raise ConfigurationError(
                f"{self.setting}={self.path}: has more than {FILE_BYTES_MAX} bytes: name another"
            )
        return content


class Reloaded(Generic[_Value]):
    """What files say, made anew when they change; while they cannot be used, it stays."""

    def __init__(
        self, files: Sequence[NamedFile], make: Callable[[Sequence[bytes]], _Value]
    ) -> None:
        """Read the files, and ``make`` a value of their contents.

        Raises:
            ConfigurationError: a file cannot be read, or ``make`` refuses what is in it.
        """
        self._files = tuple(files)
        self._make = make
        self._seen: tuple[bytes, ...] = self._read()
        self._complaint = ""
        self.value = make(self._seen)

    def look(self) -> None:
        """Read the files again, and take what they say if it is new and good; log it."""
        try:
            content = self._read()
            if content == self._seen:
                return
            value = self._make(content)
        except ConfigurationError as error:
            # Said once, not at each look. Files that are replaced one after the other do not fit
            # together for a moment: the next look will find that they do.
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("file_not_taken", reason=self._complaint, serving="as before")
            return
        self._seen, self.value, self._complaint = content, value, ""
        _log.info("files_taken", settings=[file.setting for file in self._files])

    def _read(self) -> tuple[bytes, ...]:
        return tuple(file.read() for file in self._files)


async def keep_looking(
    sources: Iterable[Reloaded[object]], look_seconds: float = LOOK_SECONDS
) -> None:
    """Look at the files in a thread, again and again, until cancelled."""
    threads = DaemonThreads("reading keys and certificates", 1)
    while True:
        await asyncio.sleep(look_seconds)
        for source in sources:
            try:
                await threads.run(source.look)
            except Exception as error:  # noqa: BLE001 - it has to go on looking
                # Without its text, which may show what was in a file.
                _log.error("look_failed", error=type(error).__name__)
