"""Files that are whole or absent after a crash: write, sync, rename."""

from __future__ import annotations

import fcntl
import os
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

    Waits without a bound of its own: holders do a few small writes and nothing else.
    """
    with lock_file.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
