"""Snapshots as immutable files, so that Bytewax's recovery store holds small handles only.

A piece of state is a *base*, which says everything, and the *changes* since, a file each. A handle
is the numbers of these files. A file is written under another name first, has a checksum, and goes
once no handle that could come back names it; a large one then waits for its folder's turn, so that
not all go in the same epoch. State that is mostly large pieces which stay as they
are has a *head* and *parts* instead: the head is written each time, a part only once.

A file is: ``HWS2``, CRC-32 of where the file belongs (``shards/0003/0000000017.state``) and of all
that follows, number of buffers (32 bits), length of each (64 bits); then the buffers: a pickle, and
the arrays in it as they lie in memory. One that was put in the place of another is no whole file.
"""

from __future__ import annotations

import os
import pickle
import shutil
import struct
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

# Bytewax may resume from the epoch before the last one it was told of.
HANDLES_KEPT = 3
# Below it changes are never too many: a base costs a new file as well.
_CHANGES_BYTES_MIN = 256 * 1024
_CHANGES_MAX = 64
# To remove a larger one takes milliseconds, in which nothing else is done.
_LARGE_BYTES_MIN = 4 * 1024 * 1024
_MAGIC = b"HWS2"
_HEAD = struct.Struct("<4sI")
_COUNT = struct.Struct("<I")

Handle = tuple[int, ...]


class StateError(Exception):
    """State cannot be written or read; the message says what to do."""


class Turn(NamedTuple):
    """Of ``of`` folders that end their epochs together this one is number ``number``."""

    number: int
    of: int


ALWAYS = Turn(0, 1)


class StateFiles:
    """The files of one piece of state, ``FOLDER/NUMBER.state``."""

    def __init__(self, folder: Path, handle: Handle | None, turn: Turn = ALWAYS) -> None:
        """Go on after ``handle``; files with later numbers never became durable and are removed.

        Args:
            folder: is made if it is not there.
            handle: None for a new piece of state.
            turn: at which of the handles to come large files go that are needless by then.

        Raises:
            StateError: the folder cannot be made or cleared.
        """
        self._folder = folder
        self._turn = turn
        self._handles = 0
        self._handle: Handle = handle or ()
        self._last = max(self._handle, default=0)
        self._recent: deque[Handle] = deque(maxlen=HANDLES_KEPT)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            names = [path.stem for path in folder.glob("*.state")]
            # What somebody else has put there, a copy say, is none of ours.
            found = {int(name) for name in names if name.isdecimal()}
            for number in [n for n in found if n > self._last]:
                self._path(number).unlink()
            self._files = {number for number in found if number <= self._last}
            # Bytes of each file of the handle.
            self._sizes = [self._path(number).stat().st_size for number in self._handle]
        except OSError as error:
            raise self._failure(error) from error

    @property
    def wants_base(self) -> bool:
        """Whether reading all changes would cost as much as a new base."""
        if len(self._handle) > _CHANGES_MAX:
            return True
        return sum(self._sizes[1:]) > max(self.base_bytes, _CHANGES_BYTES_MIN)

    @property
    def base_bytes(self) -> int:
        """How large the oldest file is that is needed."""
        return self._sizes[0] if self._sizes else 0

    @property
    def has_base(self) -> bool:
        """Whether changes can be written."""
        return bool(self._handle)

    def write_base(self, data: Any) -> Handle:
        """Store all there is, which makes everything before needless; the new handle."""
        self._sizes = [self._write(data)]
        return self._named((self._last,))

    def write_changes(self, data: Any, needless: int = 0) -> Handle:
        """Store what changed since the last handle; the new one. There must be a base.

        Args:
            data: what changed.
            needless: how many of the handle's first files say nothing more that counts.
        """
        self._sizes = [*self._sizes[needless:], self._write(data)]
        return self._named((*self._handle[needless:], self._last))

    @property
    def written_bytes(self) -> int:
        """How large the newest file is."""
        return self._sizes[-1]

    def write_part(self, data: Any) -> int:
        """Store a piece of what ``write_head`` is to name; its number."""
        self._write(data)
        return self._last

    def write_head(self, data: Any, parts: Sequence[int]) -> Handle:
        """Store what is said anew each time; the new handle is its number and those of parts."""
        self._write(data)
        return self._named((self._last, *parts))

    def read(self) -> list[Any]:
        """What the handle given at the start names, in order; raise StateError.

        The base and the changes, or the head and the parts.
        """
        return read_state(self._folder, self._handle)

    def _named(self, handle: Handle) -> Handle:
        """Take this for the handle, and remove what only older ones than the last few name."""
        self._handle = handle
        self._recent.append(handle)
        self._handles += 1
        if len(self._recent) == HANDLES_KEPT:
            is_turn = self._handles % self._turn.of == self._turn.number % self._turn.of
            for number in self._files.difference(*self._recent):
                self._remove(number, _LARGE_BYTES_MIN if not is_turn else None)
        return handle

    def _remove(self, number: int, bytes_max: int | None) -> None:
        """Remove a file unless it is larger."""
        path = self._path(number)
        try:
            if bytes_max is not None and path.stat().st_size > bytes_max:
                return
            path.unlink()
        except FileNotFoundError:
            pass
        self._files.remove(number)

    def _write(self, data: Any) -> int:
        """Write the next file; its bytes."""
        arrays: list[pickle.PickleBuffer] = []
        body = pickle.dumps(data, protocol=5, buffer_callback=arrays.append)
        buffers = [memoryview(body), *(array.raw() for array in arrays)]
        count = len(buffers)
        lengths = struct.pack(f"<I{count}Q", count, *(len(buffer) for buffer in buffers))
        number = self._last + 1
        path = self._path(number)
        checksum = crc32(lengths, _crc_of_place(path))
        for buffer in buffers:
            checksum = crc32(buffer, checksum)
        temporary = self._folder / "writing"
        try:
            with temporary.open("wb", buffering=0) as file:
                for part in (_HEAD.pack(_MAGIC, checksum), lengths, *buffers):
                    _write_all(file, part)
            temporary.replace(path)
        except OSError as error:
            raise self._failure(error) from error
        self._last = number
        self._files.add(number)
        return _HEAD.size + len(lengths) + sum(len(buffer) for buffer in buffers)

    def _path(self, number: int) -> Path:
        return _path(self._folder, number)

    def _failure(self, error: OSError) -> StateError:
        return _failure(self._folder, error)


def read_state(folder: Path, handle: Handle) -> list[Any]:
    """What a handle names, in order, out of a folder that stays as it is; raise StateError."""
    return [_read(_path(folder, number)) for number in handle]


def link_state(folder: Path, handle: Handle, into: Path) -> None:
    """Give what a handle names a second name in a new folder: files are never changed.

    The two last parts of its path must be the same, see ``StateFiles``.

    Raises:
        StateError: a file is missing, or the folder cannot be made.
    """
    try:
        into.mkdir(parents=True)
        for number in handle:
            link_or_copy(_path(folder, number), _path(into, number))
    except OSError as error:
        raise _failure(folder, error) from error


def link_or_copy(file: Path, new: Path) -> None:
    """A second name for a file that is never changed, or a copy where there are no such names."""
    try:
        os.link(file, new)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(file, new)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:010d}.state"


def _failure(folder: Path, error: OSError) -> StateError:
    return StateError(
        f"state in {folder}: {error.strerror}; make room or mend the folder and start "
        "again (nothing is lost), or rebuild it with `headwater replay`"
    )


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            # Arrays that are read must be writable, so not ``bytes``.
            content = bytearray(path.stat().st_size)
            complete = file.readinto(content) == len(content)
    except OSError as error:
        raise _failure(path.parent, error) from error
    if not complete or not _is_whole(content, _crc_of_place(path)):
        raise StateError(f"{path} is damaged; rebuild the state with `headwater replay`")
    (count,) = _COUNT.unpack_from(content, _HEAD.size)
    lengths_at = _HEAD.size + _COUNT.size
    at = lengths_at + 8 * count
    view, buffers = memoryview(content), []
    for length in struct.unpack_from(f"<{count}Q", content, lengths_at):
        buffers.append(view[at : at + length])
        at += length
    return pickle.loads(buffers[0], buffers=buffers[1:])


def _write_all(file: Any, part: Any) -> None:
    left = memoryview(part)
    while left:
        left = left[file.write(left) :]


def _crc_of_place(path: Path) -> int:
    """A checksum to begin with. Not of the whole path: state folders may be moved, and are."""
    return crc32("/".join(path.parts[-3:]).encode())


def _is_whole(content: bytearray, crc_of_place: int) -> bool:
    if len(content) < _HEAD.size:
        return False
    magic, checksum = _HEAD.unpack_from(content)
    found = crc32(memoryview(content)[_HEAD.size :], crc_of_place)
    return bool(magic == _MAGIC and found == checksum)
