"""What is applied now: follows the plan file, keeps the last good one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from contracts.plan_file import PlanFileError, read_plan
from scorer.catalogue import Catalogue
from scorer.daemon_threads import DaemonThreads
from scorer.errors import OverloadedError, UnknownFeatureError

_log = structlog.get_logger()


class AppliedFeatures:
    """The features of the last ``headwater apply``, at most a moment old.

    The file is looked at when someone asks, in a thread, and at most once in that moment. One that
    is missing or broken is told in the log, and the last good one stays.
    """

    def __init__(
        self, path: Path, clock_seconds: Callable[[], float], look_seconds: float = 1.0
    ) -> None:
        """Nothing is read yet.

        Args:
            path: the plan file.
            clock_seconds: a clock that never goes back.
            look_seconds: time between two looks.
        """
        self._path = path
        self._clock_seconds = clock_seconds
        self._look_seconds = look_seconds
        self._looking = asyncio.Lock()
        self._threads = DaemonThreads("reading the plan file", 1)
        self._looked_at: float | None = None
        self._identity: tuple[int, ...] = ()
        self._catalogue: Catalogue | None = None
        self._trouble = ""

    async def catalogue(self) -> Catalogue:
        """The features that are applied.

        Raises:
            UnknownFeatureError: nothing has been applied yet.
        """
        if self._is_due():
            # Whoever comes meanwhile waits: there may be nothing to answer with yet.
            async with self._looking:
                if self._is_due():
                    await self._look()
                    self._looked_at = self._clock_seconds()
        if self._catalogue is None:
            raise UnknownFeatureError("no features are applied yet: run `headwater apply`")
        return self._catalogue

    def _is_due(self) -> bool:
        if self._looked_at is None:
            return True
        return self._clock_seconds() - self._looked_at >= self._look_seconds

    async def _look(self) -> None:
        try:
            found = await self._threads.run(partial(_read, self._path, self._identity))
        except (PlanFileError, OSError, OverloadedError) as error:
            # Told once, not at every look.
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.error("plan_trouble", reason=str(error))
            return
        self._trouble = ""
        if found is not None:
            self._identity, self._catalogue = found
            _log.info("plan_read", path=str(self._path))


def _read(path: Path, known: tuple[int, ...]) -> tuple[tuple[int, ...], Catalogue] | None:
    """The file's identity and content; None if it is the known one."""
    try:
        status = path.stat()
    except FileNotFoundError:
        identity: tuple[int, ...] = ()
    else:
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if identity == known:
            return None
    return identity, Catalogue(read_plan(path))
