"""Where archives lie: any filesystem, which may be gone for a while."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from contracts.log import LogError
from dataflows.sources.archive_lines import count_lines
from dataflows.sources.archive_patience import Patience
from dataflows.sources.archive_store import ArchiveBytes, ArchiveStore
from dataflows.sources.chunks import joined_chunks
from tests.sources.archives import (
    MemoryLog,
    archive_of,
    archived,
    file_of,
    name_of,
    orders,
    put,
    read_all,
)
from tests.sources.orders import JSON, assert_same

PLACE = ("orders", 0)


class FlakyFiles(LocalFileSystem):  # type: ignore[misc] # fsspec has no types
    """A local folder whose network breaks: at each call of number ``every``, or ``left`` times."""

    protocol = "flaky"
    cachable = False
    every = 0
    calls = 0
    error: type[Exception] = ConnectionError
    left = 0
    is_inside = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("flaky://")))

    @contextmanager
    def _maybe(self) -> Iterator[None]:
        if FlakyFiles.is_inside:
            yield
            return
        FlakyFiles.calls += 1
        if FlakyFiles.left or (FlakyFiles.every and FlakyFiles.calls % FlakyFiles.every == 0):
            FlakyFiles.left = max(FlakyFiles.left - 1, 0)
            raise FlakyFiles.error("the cable")
        FlakyFiles.is_inside = True
        try:
            yield
        finally:
            FlakyFiles.is_inside = False

    def find(self, *given: Any, **named: Any) -> Any:
        """All files, or a break."""
        with self._maybe():
            return super().find(*given, **named)

    def info(self, path: str, **named: Any) -> Any:
        """One file, or a break."""
        with self._maybe():
            return super().info(path, **named)

    def _open(self, path: str, *given: Any, **named: Any) -> Any:
        with self._maybe():
            return _FlakyFile(super()._open(path, *given, **named), self._maybe)


class _FlakyFile:
    """Gives a few bytes at a time, and breaks between them; then it is of no use any more."""

    def __init__(self, file: Any, maybe: Any) -> None:
        self._file, self._maybe, self._is_broken = file, maybe, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> Any:
        assert not self._is_broken
        self._is_broken = True
        with self._maybe():
            data = self._file.read(min(size, 100) if size > 0 else size)
        self._is_broken = False
        return data


@pytest.fixture
def flaky() -> Iterator[type[FlakyFiles]]:
    """A filesystem that can be told to break."""
    fsspec.register_implementation("flaky", FlakyFiles, clobber=True)
    yield FlakyFiles
    FlakyFiles.every = FlakyFiles.left = 0
    FlakyFiles.error = ConnectionError


class _SlowDownError(Exception):
    """As clients of object stores have them: no OSError."""


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError, OSError, _SlowDownError])
@pytest.mark.parametrize("form", ["json", "ndjson.gz", "offset", "typed"])
def test_a_network_that_breaks_is_waited_for(
    tmp_path: Path, flaky: type[FlakyFiles], form: str, error: type[Exception]
) -> None:
    """Whatever fails, the records are the same, and what is waited for is told."""
    rows = orders(40)
    records = [JSON.write(row) for row in rows]
    put(str(tmp_path), name_of(form, 0), file_of(form, 0, rows, rows_of_group=20))
    (archived_file,) = archive_of(tmp_path).files[PLACE]
    flaky.every, flaky.left, flaky.error = 3, 1, error
    told: list[str] = []
    store = ArchiveStore(f"flaky://{tmp_path}", Patience(60, lambda _: None, told.append))
    assert store.files() == [archived_file.stored.path]
    what = f"archive flaky://{tmp_path} to answer ({error.__name__}: the cable)"
    assert told == [what, ""]
    found = joined_chunks(list(archived_file.chunks(store, 0, 1_000)))
    assert len(told) > 6
    assert told == [what, ""] * (len(told) // 2)
    assert found.offsets.tolist() == list(range(40))
    assert_same(JSON.decode([found.record(i) for i in range(40)]), JSON.decode(records))


def test_what_is_waited_for_is_told_while_reading(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    """A log says so when the archive is gone, and when it is back."""
    rows = orders(40)
    put(str(tmp_path), name_of("json", 0), file_of("json", 0, rows))
    url = f"flaky://{tmp_path}"
    log = archived(url, MemoryLog({PLACE: [b""] * 40}, 1), outage_seconds=5)
    told: list[str] = []
    log.tell = told.append
    flaky.left = 1
    assert len(read_all(log.open(log.partitions[0], None), 40)) == 40
    log.close()
    assert told == [f"archive {url} to answer (ConnectionError: the cable)", ""]


def test_a_network_that_stays_away_ends_it(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    """After the time of the settings there is one line that says how long."""
    flaky.left = 1_000_000
    clock = iter(range(100))
    patience = Patience(10, lambda _: None, monotonic=lambda: float(next(clock)))
    with pytest.raises(LogError, match=r"has not answered for 10 s .*HEADWATER_OUTAGE_SECONDS"):
        ArchiveStore(f"flaky://{tmp_path}", patience).files()


def test_waiting_ends_when_the_log_is_closed(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    """Whoever stops need not wait until the archive answers."""
    put(str(tmp_path), name_of("json", 0), file_of("json", 0, orders(40)))
    url = f"flaky://{tmp_path}"
    log = archived(url, MemoryLog({PLACE: [b""] * 40}, 1), outage_seconds=3_600)
    flaky.left = 1_000_000
    reader = log.open(log.partitions[0], None)
    assert reader.read(1) is None
    reader.close()
    log.close()
    assert log._threads._threads
    assert not any(thread.is_alive() for thread in log._threads._threads)


def test_what_no_waiting_mends_is_told_at_once(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    """Files that are gone or may not be read are named; nobody waits for them."""
    put(str(tmp_path), "a", b"1\n")
    patience = Patience(60, lambda _: pytest.fail("waited"))
    store = ArchiveStore(f"flaky://{tmp_path}", patience)
    (path,) = store.files()
    file = store.look(path)
    flaky.left, flaky.error = 1, PermissionError
    with pytest.raises(LogError, match=f"{tmp_path}/a may not be read"):
        store.open(file)
    flaky.left, flaky.error = 1, RuntimeError
    with pytest.raises(LogError, match=f"{tmp_path}/a cannot be read .RuntimeError: the cable"):
        store.open(file)
    opened = store.open(file)
    (tmp_path / "a").unlink()
    with pytest.raises(LogError, match=f"{tmp_path}/a is gone"):
        opened.read(1)


def test_files_in_memory_are_an_archive_too() -> None:
    """Any filesystem will do: here the one that fsspec keeps in memory."""
    url = f"memory://{uuid.uuid4().hex}/topics"
    rows = orders(30)
    put(url, f"orders/{name_of('json', 0)}", file_of("json", 0, rows[:10]))
    put(url, f"orders/{name_of('offset', 10)}", file_of("offset", 10, rows[10:20]))
    records = [JSON.write(row) for row in rows]
    log = archived(url, MemoryLog({PLACE: records}, 20))
    assert read_all(log.open(log.partitions[0], None), 30) == list(enumerate(records))
    log.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://bucket/topics", r"Install s3fs .*; pip install it"),
        ("nowhere://user:secret@x/y", r"nowhere://\*\*\*@x/y: .*HEADWATER_ARCHIVE_URL must be"),
    ],
)
def test_addresses_that_cannot_be_read_say_what_to_do(url: str, problem: str) -> None:
    """A library that is missing is named, a password is not."""
    with pytest.raises(LogError, match=problem):
        ArchiveStore(url, Patience(1))


def test_a_file_is_read_from_anywhere(tmp_path: Path) -> None:
    """It may be sought from its begin, from where it was, and from its end."""
    (tmp_path / "a").write_bytes(b"0123456789")
    store = ArchiveStore(str(tmp_path), Patience(1))
    stored = store.look(*store.files())
    # Not every store says how large a file is.
    for seen in (stored, replace(stored, size=None)):
        with ArchiveBytes(store, seen) as file:
            assert (file.seek(-3, os.SEEK_END), file.read(2)) == (7, b"78")
            assert (file.seek(-1, os.SEEK_CUR), file.read()) == (8, b"89")
            assert (file.seek(1), file.read(2), file.tell()) == (1, b"12", 3)


def test_counting_takes_whole_lines_of_any_length(tmp_path: Path) -> None:
    """Also those that are longer than what is read at once."""
    (tmp_path / "a").write_bytes(b"a" * (3 << 20) + b"\n\n" + b"b" * (2 << 20) + b"\n")
    store = ArchiveStore(str(tmp_path), Patience(1))
    with store.open(store.look(*store.files())) as file:
        assert count_lines(file, "a", "") == 3
