"""Files that are whole or absent after a crash: write, sync, rename."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames and new names inside ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(file: Path, data: bytes) -> None:
    """Write a new file, or over an old one, and wait until it is on the disk."""
    with file.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def replace_file(file: Path, data: bytes) -> None:
    """Replace ``file`` in one step: a reader sees all of the old or all of the new bytes."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        write_synced(temporary, data)
        temporary.replace(file)
    except OSError:
        # On a full disk it would be in the way, and nobody would remove it.
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def read_regular(file: Path, bytes_max: int = -1) -> bytes:
    """All of a file, or its first bytes. OSError for what is no regular one, as pipes may not end.

    Args:
        file: which.
        bytes_max: no more than that is read; -1 for all.
    """
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(file))
        with os.fdopen(handle, "rb", closefd=False) as opened:
            return opened.read(bytes_max)
    finally:
        os.close(handle)


def append_line(file: Path, line: bytes) -> None:
    """Append a line and wait until it is on the disk; a torn line before it stays by itself."""
    with file.open("a+b") as out:
        size = out.seek(0, os.SEEK_END)
        if size:
            out.seek(size - 1)
            if out.read(1) != b"\n":
                line = b"\n" + line
        out.write(line + b"\n")
        out.flush()
        os.fsync(out.fileno())


@contextmanager
def exclusive(lock_file: Path) -> Iterator[None]:
    """Hold a lock among processes of this machine; the kernel frees it if the holder dies.

    It is that of the file which has the name then: its folder may be replaced while we wait.
    Waits without a bound of its own: holders do a few small writes and nothing else.
    """
    while True:
        with lock_file.open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not os.path.samestat(os.fstat(handle.fileno()), lock_file.stat()):
                continue
            yield
            return
