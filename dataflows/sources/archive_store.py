"""Where archive files lie: whatever fsspec reaches, asked again while it is gone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import fsspec

from contracts.log import LogError
from dataflows.sources.archive_patience import Patience, patiently, text_of

# What is listed at once; a folder of so many files is not the archive of a log.
FILES_MAX = 1_000_000
_BLOCK_BYTES = 4 * 1024 * 1024
_PASSWORD = re.compile(r"(?<=://)[^/@]*@")
# What each of the many filesystems calls its mark of a version; the first that is there counts.
_MARKS = (
    "ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "updated",
    "modified", "created",
)  # fmt: skip
_T = TypeVar("_T")


@dataclass(frozen=True)
class StoredFile:
    """A file as it was when it was looked at.

    Attributes:
        path: its name in the filesystem.
        mark: differs when the file was written again.
        size: bytes; None if the filesystem does not say.
    """

    path: str
    mark: str
    size: int | None


class ArchiveStore:
    """The files below one address. Safe for threads.

    Attributes:
        shown: the address, without a password.
    """

    def __init__(self, url: str, patience: Patience) -> None:
        """Raise LogError if nothing here can read from such an address."""
        self.shown = _PASSWORD.sub("***@", url)
        self._patience = patience
        try:
            self._filesystem, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise LogError(
                f"archive {self.shown}: {error}; pip install it here and start again"
            ) from error
        except Exception as error:
            # Each filesystem has its own errors for an address or a login that it does not like.
            raise LogError(
                f"archive {self.shown}: {text_of(error)}; HEADWATER_ARCHIVE_URL must be a folder "
                "or a URL that fsspec knows, such as s3://bucket/topics"
            ) from error

    def files(self) -> list[str]:
        """Paths of all files below the address, in order; raise LogError."""

        def find() -> list[str]:
            # What was listed before says nothing of what is there now.
            self._filesystem.invalidate_cache()
            return list(self._filesystem.find(self._root))

        found = self.patiently(find, self.shown)
        # Otherwise a later look at a file would get what was listed.
        self._filesystem.invalidate_cache()
        if len(found) > FILES_MAX:
            raise LogError(
                f"archive {self.shown} has {len(found)} files, more than {FILES_MAX}: name the "
                "folder of the topics"
            )
        return sorted(found)

    def look(self, path: str) -> StoredFile:
        """A file as it is now; raise LogError."""
        info = self.patiently(lambda: self._filesystem.info(path), path)
        return _stored(path, info)

    def open(self, stored: StoredFile) -> ArchiveBytes:
        """The bytes of a file; raise LogError if it is not the one that was looked at."""
        if self.look(stored.path) != stored:
            raise changed(stored.path)
        return ArchiveBytes(self, stored)

    def open_once(self, path: str) -> Any:
        """A file object; errors are those of the filesystem."""
        # Some would otherwise keep 50 MB of each file that is open.
        return self._filesystem.open(path, "rb", block_size=_BLOCK_BYTES)

    def patiently(self, work: Callable[[], _T], what: str) -> _T:
        """What ``work`` gives, called again while the store is gone; raise LogError."""
        try:
            return patiently(work, self._patience, f"archive {self.shown}")
        except LogError:
            raise
        except Exception as error:
            # Whatever a filesystem raises: it is told in one line.
            raise self._problem(what, error) from error

    def _problem(self, what: str, error: Exception) -> LogError:
        if isinstance(error, FileNotFoundError):
            return LogError(
                f"archive: {what} is gone; put it back, or look at HEADWATER_ARCHIVE_URL, and "
                "start again"
            )
        if isinstance(error, PermissionError):
            return LogError(
                f"archive: {what} may not be read ({text_of(error)}); allow it to the user that "
                "replays, or give its credentials as the store's own client wants them"
            )
        return LogError(f"archive: {what} cannot be read ({text_of(error)})")


class ArchiveBytes(io.RawIOBase):
    """Reads a file from anywhere in it; goes on where it was when the store comes back."""

    def __init__(self, store: ArchiveStore, stored: StoredFile) -> None:
        self._store = store
        self._stored = stored
        self._file: Any = None
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is, unless the store cannot."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Where the next read is to begin; only then is the file looked at."""
        if whence == io.SEEK_CUR:
            offset += self._at
        elif whence == io.SEEK_END:
            offset += self._size()
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer only at the end of the file; raise LogError."""
        parts = []
        left = size
        # What has come stays, however often the rest has to be asked for.
        while left and (part := self._some(left)):
            parts.append(part)
            left -= len(part) if size >= 0 else 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Let go of the file."""
        self._drop()
        super().close()

    def _size(self) -> int:
        if self._stored.size is not None:
            return self._stored.size
        return self._store.patiently(self._measured, self._stored.path)

    def _measured(self) -> int:
        with self._store.open_once(self._stored.path) as file:
            return int(file.seek(0, io.SEEK_END))

    def _some(self, size: int) -> bytes:
        """As many bytes as one read of the filesystem gives."""
        return self._store.patiently(lambda: self._read_once(size), self._stored.path)

    def _read_once(self, size: int) -> bytes:
        try:
            if self._file is None:
                self._file = self._store.open_once(self._stored.path)
            if self._file.tell() != self._at:
                self._file.seek(self._at)
            data: bytes = self._file.read(size)
        except BaseException:
            self._drop()
            raise
        self._at += len(data)
        return data

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def changed(path: str) -> LogError:
    """A file is not what it was when the replay began."""
    return LogError(
        f"archive: {path} has changed since the replay looked at it; archives are written once: "
        "put the old file back, or begin anew with `headwater replay --drop`"
    )


def _stored(path: str, info: Mapping[str, Any]) -> StoredFile:
    size = info.get("size")
    mark = next((str(info[name]) for name in _MARKS if info.get(name)), "")
    return StoredFile(path, mark, None if size is None else int(size))
