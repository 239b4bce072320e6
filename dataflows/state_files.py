"""Snapshots as immutable files, so that Bytewax's recovery store holds small handles only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from zlib import crc32

# Bytewax may resume from the epoch before the last one it was told of.
GENERATIONS_KEPT = 3

Handle = int


class StateError(Exception):
    """State cannot be written or read; the message says what to do."""


class StateFiles:
    """The files of one piece of state, ``FOLDER/GENERATION.state``; a handle is a generation."""

    def __init__(self, folder: Path, handle: Handle | None) -> None:
        """Go on after ``handle``; files of later generations never became durable and are removed.

        Raises:
            StateError: the folder cannot be made or cleared.
        """
        self._folder = folder
        self._generation = handle or 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for generation in self._generations():
                if generation > self._generation:
                    self._path(generation).unlink()
        except OSError as error:
            raise self._failure(error) from error

    def write(self, data: Any) -> Handle:
        """Store ``data`` under a new handle; the newest few handles stay readable."""
        body = pickle.dumps(data, protocol=5)
        temporary = self._folder / "writing"
        generation = self._generation + 1
        try:
            temporary.write_bytes(crc32(body).to_bytes(4, "little") + body)
            temporary.replace(self._path(generation))
            for old in self._generations():
                if old <= generation - GENERATIONS_KEPT:
                    self._path(old).unlink()
        except OSError as error:
            raise self._failure(error) from error
        self._generation = generation
        return generation

    def read(self) -> Any:
        """What the handle given at the start stands for; raise StateError."""
        path = self._path(self._generation)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self._failure(error) from error
        if crc32(content[4:]).to_bytes(4, "little") != content[:4]:
            raise StateError(f"{path} is damaged; rebuild the state with `headwater replay`")
        return pickle.loads(content[4:])

    def _generations(self) -> list[int]:
        return [int(path.stem) for path in self._folder.glob("*.state")]

    def _path(self, generation: Handle) -> Path:
        return self._folder / f"{generation:010d}.state"

    def _failure(self, error: OSError) -> StateError:
        return StateError(
            f"state in {self._folder}: {error.strerror}; make room or mend the folder and start "
            "again (nothing is lost), or rebuild it with `headwater replay`"
        )
