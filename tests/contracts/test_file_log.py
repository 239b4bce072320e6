"""The file log: offsets are byte positions, and a record counts when its newline is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import file_log
from contracts.file_log import FileLogWriter, PartitionFile, partition_files
from contracts.log import LogError


def _partition(folder: Path, content: bytes) -> Path:
    path = folder / "0.ndjson"
    path.write_bytes(content)
    return path


def _read_all(file: PartitionFile, bytes_max: int, until: int | None = None) -> list[object]:
    """(offset, record) of all there is."""
    found: list[object] = []
    while (chunk := file.read(bytes_max, until)) is not None:
        records = chunk.records.split(b"\n")[:-1]
        assert len(chunk.records) <= max(bytes_max, 2 * max(map(len, records)) + 2)
        found += zip(chunk.offsets.tolist(), records, strict=True)
        assert file.offset == chunk.next_offset
    return found


def _lines(content: bytes) -> list[object]:
    """What ``_read_all`` should find: a plain walk over whole lines."""
    found: list[object] = []
    offset = 0
    for line in content.splitlines(keepends=True):
        if line.endswith(b"\n"):
            found.append((offset, line[:-1]))
        offset += len(line)
    return found


@given(
    st.lists(st.sampled_from([b"", b"a", b"bc", b"d" * 20, b"e" * 300]), max_size=30),
    st.integers(1, 400),
    st.integers(0, 30),
)
def test_all_records_with_their_offsets(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], bytes_max: int, begin: int
) -> None:
    """However small the reads and wherever one begins, each record comes once at its offset."""
    content = b"".join(line + b"\n" for line in lines)
    path = _partition(tmp_path_factory.mktemp("log"), content)
    wanted = _lines(content)
    offset = wanted[begin][0] if begin < len(wanted) else 0  # type: ignore[index]
    file = PartitionFile(path, offset)
    assert _read_all(file, bytes_max) == [w for w in wanted if w[0] >= offset]  # type: ignore[index]
    file.close()


def test_a_record_without_its_newline_waits(tmp_path: Path) -> None:
    """The last record is read once it is whole, and then as a whole."""
    path = _partition(tmp_path, b"one\ntw")
    file = PartitionFile(path, 0)
    assert _read_all(file, 3) == [(0, b"one")]
    with path.open("ab") as appended:
        appended.write(b"o")
    assert file.read(1000) is None
    with path.open("ab") as appended:
        appended.write(b"\nthree\n")
    assert _read_all(file, 1000) == [(4, b"two"), (8, b"three")]
    file.close()


@pytest.mark.parametrize("until", range(14))
def test_nothing_from_the_end_on_is_read(tmp_path: Path, until: int) -> None:
    """With ``until``, only records that are whole before it are read, however it is cut."""
    content = b"one\ntwo\nthree\n"
    file = PartitionFile(_partition(tmp_path, content), 0)
    assert _read_all(file, 5, until) == _lines(content[:until])
    assert file.read(100, until) is None
    file.close()


def test_a_file_that_was_cut_is_an_error(tmp_path: Path) -> None:
    """A position behind the end of the file means that the log was cut or replaced."""
    path = _partition(tmp_path, b"one\n")
    with pytest.raises(LogError, match="cut or replaced"):
        PartitionFile(path, 5)
    PartitionFile(path, 4).close()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A partition that is not there is named."""
    with pytest.raises(LogError, match=r"0\.ndjson"):
        PartitionFile(tmp_path / "0.ndjson", 0)


def test_a_file_without_newlines_is_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record longer than the limit stops with an error, not with a full memory."""
    monkeypatch.setattr(file_log, "RECORD_BYTES_MAX", 1000)
    file = PartitionFile(_partition(tmp_path, b"ok\n" + b"x" * 5000), 0)
    assert file.read(10) is not None
    with pytest.raises(LogError, match="no newline"):
        file.read(10)
    file.close()


def test_partitions_come_by_number(tmp_path: Path) -> None:
    """Partition 10 comes after partition 2, and a file that is no partition is refused."""
    (tmp_path / "t").mkdir()
    for name in ("10", "2", "0"):
        (tmp_path / "t" / f"{name}.ndjson").touch()
    assert list(partition_files(tmp_path, "t")) == [0, 2, 10]
    (tmp_path / "t" / "old.ndjson").touch()
    with pytest.raises(LogError, match="old"):
        partition_files(tmp_path, "t")


def test_one_key_stays_in_one_partition_in_order(tmp_path: Path) -> None:
    """The writer spreads keys over the partitions that exist and keeps the order of each key."""
    (tmp_path / "t").mkdir()
    for name in "012":
        (tmp_path / "t" / f"{name}.ndjson").touch()
    writer = FileLogWriter(tmp_path, "t")
    records = [(f"k{i % 7}", f"{i % 7} {i}".encode()) for i in range(70)]
    assert writer.append(records[:30]) == 30
    assert writer.append(records[30:]) == 40
    writer.close()
    parts = [path.read_bytes().splitlines() for path in partition_files(tmp_path, "t").values()]
    assert all(parts)
    assert sorted(line for part in parts for line in part) == sorted(r for _, r in records)
    for key in range(7):
        (own,) = [p for p in parts if any(line.startswith(b"%d " % key) for line in p)]
        numbers = [int(line.split()[1]) for line in own if line.startswith(b"%d " % key)]
        assert numbers == sorted(numbers)
