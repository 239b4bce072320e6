"""A log that begins in an archive: the same records as Kafka alone, wherever the cuts are."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.log import LogError
from dataflows.sources.archive_log import check_first_run, with_archive
from dataflows.sources.archive_patience import Patience
from dataflows.sources.archive_reader import ArchivedPartition, ReadingThreads
from dataflows.sources.archive_store import ArchiveStore
from dataflows.sources.chunks import joined_chunks
from dataflows.sources.plan_log import FilePlanLog
from tests.sources.archives import (
    FORMS,
    MemoryLog,
    archive_of,
    archived,
    file_of,
    name_of,
    orders,
    parquet,
    plan_of,
    put,
    read_all,
    settings_of,
    valued,
)
from tests.sources.orders import JSON, ROWS, assert_same

PLACE = ("orders", 0)
FINE = 1 << 20


def fill(url: str, cuts: list[int], forms: list[str], rows: list[Any]) -> None:
    """Files of these forms that begin and end at the cuts."""
    for form, first, end in zip(forms, cuts, cuts[1:], strict=False):
        folder = ("", "orders/partition=0/", "2013/01/")[first % 3]
        put(url, folder + name_of(form, first), file_of(form, first, rows[first:end]))


@dataclass(frozen=True)
class Made:
    """Rows, where files of which form begin and end, and what is read of them."""

    rows: list[Any]
    cuts: list[int]
    forms: list[str]
    kept_from: int
    begin: int
    until: int


@st.composite
def archives(draw: st.DrawFn) -> Made:
    """Kafka has let go of one record of the archive at least; reading begins anywhere in it."""
    rows = draw(st.lists(ROWS, min_size=2, max_size=40))
    end = len(rows)
    cuts = sorted(draw(st.sets(st.integers(0, end), min_size=2, max_size=5)))
    forms = draw(st.lists(st.sampled_from(FORMS), min_size=len(cuts), max_size=len(cuts)))
    kept_from = draw(st.integers(cuts[0] + 1, cuts[-1]))
    begin = draw(st.integers(cuts[0], cuts[-1]))
    return Made(rows, cuts, forms, kept_from, begin, draw(st.integers(begin, end)))


@settings(max_examples=60)
@given(
    made=archives(),
    sizes=st.tuples(st.sampled_from([1, 100, 400, FINE]), st.sampled_from([1, 300, FINE])),
)
def test_archive_and_kafka_are_the_log(
    tmp_path_factory: pytest.TempPathFactory, made: Made, sizes: tuple[int, int]
) -> None:
    """From any offset to any other: the records that Kafka alone would have given."""
    url = str(tmp_path_factory.mktemp("archive"))
    fill(url, made.cuts, made.forms, made.rows)
    records = [JSON.write(row) for row in made.rows]
    log = archived(url, MemoryLog({PLACE: records}, made.kept_from), batch_bytes=sizes[0])
    log.check()
    reader = log.open(log.partitions[0], made.begin)
    found = read_all(reader, made.until, sizes[1])
    assert [offset for offset, _ in found] == list(range(made.begin, made.until))
    found += read_all(reader, len(records), sizes[1])
    reader.close()
    log.close()
    assert [offset for offset, _ in found] == list(range(made.begin, len(records)))
    assert_same(JSON.decode([record for _, record in found]), JSON.decode(records[made.begin :]))
    typed = {
        offset
        for form, (first, end) in zip(made.forms, pairwise(made.cuts), strict=False)
        for offset in range(first, end)
        if form == "typed"
    }
    assert [one for one in found if one[0] not in typed] == [
        one for one in enumerate(records) if one[0] >= made.begin and one[0] not in typed
    ]


@pytest.mark.parametrize("form", ["json", "ndjson.gz"])
def test_lines_are_read_on_from_the_middle(tmp_path: Path, form: str) -> None:
    """Wherever a file was left, in whatever pieces."""
    rows = orders(10)
    fill(str(tmp_path), [0, 10], [form], rows)
    records = [JSON.write(row) for row in rows]
    (file,) = archive_of(tmp_path).files[PLACE]
    store = ArchiveStore(str(tmp_path), Patience(1))
    for begin in range(10):
        for size in (1, 300, FINE):
            chunk = joined_chunks(list(file.chunks(store, begin, size)))
            assert chunk.offsets.tolist() == list(range(begin, 10))
            assert [chunk.record(i) for i in range(10 - begin)] == records[begin:]


def test_the_oldest_record_is_that_of_the_archive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an offset reading begins in the archive, and goes on in Kafka behind its end."""
    rows = orders(30)
    fill(str(tmp_path), [4, 10, 20], ["json", "typed"], rows)
    inner = MemoryLog({PLACE: [JSON.write(row) for row in rows]}, kept_from=15)
    log = archived(tmp_path, inner)
    assert log.begins() == {0: 4}
    assert log.ends() == {0: 30}
    assert log.notes == ("orders/0: neither archive nor Kafka has records before 4",)
    reader = log.open(log.partitions[0], None)
    assert inner.opened == []
    assert [offset for offset, _ in read_all(reader, 30)] == list(range(4, 30))
    assert inner.opened == [("orders/0", 20)]
    assert caplog.messages == [f"archive: {log.notes[0]}"]
    reader.committed(25)
    reader.close()
    log.close()
    assert inner.was_closed


def test_what_kafka_still_has_is_read_from_kafka(tmp_path: Path) -> None:
    """An archive that goes back no further than Kafka is not read, nor is it behind its end."""
    rows = orders(30)
    fill(str(tmp_path), [4, 10, 20], ["json", "typed"], rows)
    records = {PLACE: [JSON.write(row) for row in rows]}
    whole = MemoryLog(records)
    log = archived(tmp_path, whole)
    assert log.begins() == {0: 0}
    log.open(log.partitions[0], None)
    short = MemoryLog(records, kept_from=15)
    log = archived(tmp_path, short)
    log.open(log.partitions[0], 20)
    assert (whole.opened, short.opened) == ([("orders/0", None)], [("orders/0", 20)])


def test_state_behind_the_archive_needs_no_archive(tmp_path: Path) -> None:
    """What Kafka lets go of later, behind the archive, is no gap for those who are past it."""
    fill(str(tmp_path), [0, 10], ["json"], orders(10))
    log = archived(tmp_path, MemoryLog({PLACE: [b"{}"] * 30}, kept_from=15))
    assert log.open(log.partitions[0], 15).offset == 15
    with pytest.raises(LogError, match="from 15 on only: 5 offsets are missing"):
        log.open(log.partitions[0], 9)
    with pytest.raises(LogError, match=r"orders/0 ends with offset 9 in .*0000000000.json"):
        log.check()


def test_an_archive_of_another_topic_is_refused(tmp_path: Path) -> None:
    """Records behind Kafka's end are of a topic that is gone, like those of missing partitions."""
    fill(str(tmp_path), [0, 10], ["json"], orders(10))
    log = archived(tmp_path, MemoryLog({PLACE: [b"{}"] * 9}, kept_from=1))
    with pytest.raises(LogError, match="in Kafka the next one to be written is 9"):
        log.open(log.partitions[0], None)
    put(str(tmp_path), name_of("json", 0, partition=3), b"{}\n")
    with pytest.raises(LogError, match="orders/3, but Kafka has no such partition"):
        archived(tmp_path, MemoryLog({PLACE: [b"{}"] * 30}))


def test_a_position_before_the_archive_is_refused(tmp_path: Path) -> None:
    """Whoever resumes where files have gone meanwhile is told which."""
    fill(str(tmp_path), [5, 10], ["json"], orders(10))
    log = archived(tmp_path, MemoryLog({PLACE: [b"{}"] * 30}, kept_from=10))
    with pytest.raises(LogError, match="read to offset 3, but the archive begins with 5"):
        log.open(log.partitions[0], 3)


def test_names_may_cover_offsets_without_records(tmp_path: Path) -> None:
    """Ends of transactions have offsets: where a file says so, the next one goes on behind them."""
    covered = [("orders+0+0+5.parquet", [0, 1, 4]), ("orders+0+6+9.parquet", [7, 8])]
    for name, offsets in [*covered, ("orders+0+10+11.parquet", [])]:
        values = [b"%d" % offset for offset in offsets]
        put(str(tmp_path), name, parquet(valued(values, offset=pa.array(offsets, pa.int64()))))
    records = [b"%d" % offset for offset in range(15)]
    wanted = [(offset, records[offset]) for offset in (0, 1, 4, 7, 8, 12, 13, 14)]
    for begin in range(15):
        log = archived(tmp_path, MemoryLog({PLACE: records}, kept_from=12))
        found = read_all(log.open(log.partitions[0], begin), 15)
        assert found == [one for one in wanted if one[0] >= begin]
        log.close()
    put(str(tmp_path), "orders+0+12+13.parquet", parquet(valued([b"14"], offset=[14])))
    with pytest.raises(LogError, match="records from offset 14 to 14, which is not within"):
        archive_of(tmp_path)


def test_partitions_that_the_archive_lacks_come_from_kafka(tmp_path: Path) -> None:
    """They begin with Kafka's oldest record, which is said if it is not the first one."""
    fill(str(tmp_path), [0, 10], ["json"], orders(10))
    records = [JSON.write(row) for row in orders(30)]
    inner = MemoryLog({PLACE: records, ("orders", 1): records}, kept_from=10)
    log = archived(tmp_path, inner)
    assert log.notes == ("orders/1 is not in the archive, and Kafka keeps it from 10 on",)
    assert len(read_all(log.open(log.partitions[1], None), 30)) == 20
    assert len(read_all(log.open(log.partitions[0], None), 30)) == 30
    log.close()


def test_a_log_of_files_has_no_archive(tmp_path: Path) -> None:
    """Its offsets are byte positions: the message says so."""
    fill(str(tmp_path), [0, 10], ["json"], orders(10))
    plan = plan_of(JSON.topic)
    with pytest.raises(LogError, match="byte positions"):
        with_archive(
            FilePlanLog(tmp_path / "log", plan), archive_of(tmp_path), settings_of(tmp_path)
        )


def test_a_run_does_not_begin_behind_the_archive(tmp_path: Path) -> None:
    """A run without state is refused if the archive goes back further than Kafka."""
    fill(str(tmp_path), [3, 10], ["json"], orders(10))
    records = {PLACE: [b"{}"] * 30}
    given, plan = settings_of(tmp_path), plan_of(JSON.topic)
    check_first_run(MemoryLog(records), given, plan)
    check_first_run(MemoryLog(records, kept_from=3), given, plan)
    check_first_run(MemoryLog(records, kept_from=4), settings_of(""), plan)
    with pytest.raises(
        LogError, match=r"from offset 4 on only, .* from 3 on: run `headwater replay"
    ):
        check_first_run(MemoryLog(records, kept_from=4), given, plan)


def test_a_file_that_changes_meanwhile_ends_the_replay(tmp_path: Path) -> None:
    """It is looked at again when its turn comes; whole records before it were given."""
    rows = orders(20)
    fill(str(tmp_path), [0, 10, 20], ["json", "json"], rows)
    log = archived(tmp_path, MemoryLog({PLACE: [JSON.write(row) for row in rows]}, 20))
    put(str(tmp_path), f"orders/partition=0/{name_of('json', 10)}", b"{}\n")
    reader = log.open(log.partitions[0], None)
    with pytest.raises(LogError, match=r"0000000010.json has changed since"):
        read_all(reader, 20)
    log.close()


def test_a_file_that_changes_unseen_ends_the_replay(tmp_path: Path) -> None:
    """As large and as old as it was, it has other lines: more or fewer than were counted."""
    path = tmp_path / name_of("json", 0)
    path.write_bytes(b"{}\n{}\n{}\n")
    old = path.stat()
    for data in (b"{  }\n{ }\n", b"{}\n{}\n\n\n\n"):
        path.write_bytes(b"{}\n{}\n{}\n")
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
        log = archived(tmp_path, MemoryLog({PLACE: [b"{}"] * 3}, 3))
        path.write_bytes(data)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
        with pytest.raises(LogError, match=r"0000000000.json has changed since"):
            read_all(log.open(log.partitions[0], None), 3)
        log.close()


def test_memory_is_bounded_by_pieces_that_are_ahead() -> None:
    """Nobody reads on in an archive before what was read is taken."""
    given_out: list[int] = []
    chunk = archived_chunk()

    def pieces() -> Any:
        for number in range(100):
            given_out.append(number)
            yield replace(chunk, offsets=chunk.offsets + number, next_offset=number + 1)

    threads = ReadingThreads()
    reader = ArchivedPartition(0, pieces(), 1, threads, lambda: pytest.fail("not yet"))
    for taken in range(50):
        assert read_all(reader, taken + 1, 1)[0][0] == taken
        assert len(given_out) <= taken + 4
    reader.close()
    threads.close()


def archived_chunk() -> Any:
    """A chunk of one record."""
    from contracts.log import Chunk

    return Chunk(b"{}\n", np.zeros(1, np.int64), np.zeros(1, np.int64), 1)
