"""For tests of archives: files in every form, and a log in memory that stands in for Kafka."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.log import Chunk, PartitionReader
from contracts.plan import Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.sources.archive import Archive, survey
from dataflows.sources.archive_log import ArchivedLog, with_archive
from dataflows.sources.chunks import cut_chunk, room_for
from dataflows.sources.plan_log import LogPartition
from tests.sources.orders import JSON, Row

FORMS = ("json", "ndjson.gz", "jsonl.zst", "value", "offset", "typed")
WAIT_SECONDS = 20.0
TYPES = {
    "user": pa.string(),
    "at": pa.timestamp("us", tz="UTC"),
    "amount": pa.float64(),
    "items": pa.int64(),
    "is_gift": pa.bool_(),
    "kind": pa.dictionary(pa.int32(), pa.string()),
    "note": pa.string(),
}


def plan_of(*topics: Topic) -> Plan:
    """A plan that reads these topics."""
    return Plan("shop", tuple(sorted(topics, key=lambda topic: topic.name)), (), ())


def typed(rows: Sequence[Row]) -> pa.Table:
    """Orders with a column for each field."""
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    return pa.table(columns)


def valued(records: Sequence[bytes], **others: Any) -> pa.Table:
    """The bytes of records, and other columns beside them."""
    return pa.table({"value": pa.array(records, pa.binary()), **others})


def parquet(table: pa.Table, rows_of_group: int = 1_000) -> bytes:
    """A table as a file."""
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=rows_of_group)
    return file.getvalue()


def lines(records: Sequence[bytes]) -> bytes:
    """One record a line."""
    return b"".join(record + b"\n" for record in records)


def file_of(form: str, first: int, rows: Sequence[Row], rows_of_group: int = 3) -> bytes:
    """What a file of that form holds, if its first record has offset ``first``."""
    records = [JSON.write(row) for row in rows]
    if form == "json":
        return lines(records)
    if form == "ndjson.gz":
        # Two members one behind the other are one file, too.
        half = len(records) // 2
        return gzip.compress(lines(records[:half])) + gzip.compress(lines(records[half:]))
    if form == "jsonl.zst":
        return bytes(pa.Codec("zstd").compress(lines(records), asbytes=True))
    if form == "value":
        return parquet(valued(records), rows_of_group)
    if form == "offset":
        offsets = pa.array(range(first, first + len(rows)), pa.int64())
        times = pa.array([1_000 + i for i in range(len(rows))], pa.timestamp("ms"))
        return parquet(valued(records, offset=offsets, timestamp=times), rows_of_group)
    return parquet(typed(rows), rows_of_group)


def name_of(form: str, first: int, topic: str = "orders", partition: int = 0) -> str:
    """How a sink of Kafka Connect would name it."""
    extension = form if form.startswith(("json", "ndjson")) else "parquet"
    return f"{topic}+{partition}+{first:010d}.{extension}"


class MemoryLog:
    """Partitions of Kafka without Kafka: records by their offsets, the first ones thrown away."""

    kind = "kafka"

    def __init__(self, records: dict[tuple[str, int], list[bytes]], kept_from: int = 0) -> None:
        self.topic_ids: dict[str, str] = {}
        self.partitions = [LogPartition(n, *place) for n, place in enumerate(sorted(records))]
        self.opened: list[tuple[str, int | None]] = []
        self.was_closed = False
        self._records = records
        self._kept_from = kept_from

    def begins(self) -> dict[int, int]:
        """The same everywhere."""
        return {p.number: self._kept_from for p in self.partitions}

    def ends(self) -> dict[int, int]:
        """Behind the last record."""
        return {p.number: len(self._of(p)) for p in self.partitions}

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """Notes where it was opened."""
        self.opened.append((partition.name, offset))
        offset = self._kept_from if offset is None else offset
        assert offset >= self._kept_from, "Kafka would say that it is out of range"
        return MemoryReader(self._of(partition), offset)

    def settle(self) -> None:
        """Nobody watches."""

    def close(self) -> None:
        """Notes that it was closed."""
        self.was_closed = True

    def _of(self, partition: LogPartition) -> list[bytes]:
        return self._records[partition.topic, partition.partition]


class MemoryReader:
    """Reads a list of records."""

    def __init__(self, records: list[bytes], offset: int) -> None:
        self.offset = offset
        self.told: list[int] = []
        self._records = records

    def read(self, bytes_max: int, until: int | None = None) -> Chunk | None:
        """As ``PartitionReader``."""
        records = self._records[self.offset :]
        if not records:
            return None
        sizes = [len(record) + 1 for record in records]
        chunk = Chunk(
            lines(records),
            np.cumsum([0, *sizes[:-1]]).astype(np.int64),
            np.arange(self.offset, self.offset + len(records)),
            self.offset + len(records),
        )
        last = room_for(chunk, 0, bytes_max, until)
        if not last:
            return None
        self.offset += last
        return cut_chunk(chunk, 0, last)

    def has_news(self) -> bool:
        """Whether something is left."""
        return self.offset < len(self._records)

    def is_at_end(self, until: int | None = None) -> bool:
        """Whether nothing is."""
        return self.offset >= (len(self._records) if until is None else until)

    def has_withheld(self) -> bool:
        """Nothing is."""
        return False

    def known_at(self, now: float) -> float:
        """A list is what it is."""
        return now

    def committed(self, offset: int) -> None:
        """Notes what was told."""
        self.told.append(offset)

    def close(self) -> None:
        """Nothing is held."""


def settings_of(folder: str | Path, **given: Any) -> DataflowSettings:
    """Settings with an archive there."""
    return DataflowSettings(archive_url=str(folder), log_url="kafka://127.0.0.1:1", **given)


def archive_of(folder: str | Path, *topics: Topic, **given: Any) -> Archive:
    """The archive in a folder, of the topic of orders if no other is named."""
    return survey(settings_of(folder, **given), plan_of(*(topics or (JSON.topic,))))


def archived(folder: str | Path, log: MemoryLog, *topics: Topic, **given: Any) -> ArchivedLog:
    """A log behind the archive in a folder."""
    return with_archive(log, archive_of(folder, *topics, **given), settings_of(folder, **given))


def read_all(
    reader: PartitionReader, until: int, bytes_max: int = 1 << 20
) -> list[tuple[int, bytes]]:
    """Offset and bytes of all records before ``until``."""
    found: list[tuple[int, bytes]] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while not reader.is_at_end(until):
        before = reader.offset
        chunk = reader.read(bytes_max, until)
        if chunk is None:
            assert time.monotonic() < deadline, f"{reader.offset} of {until}"
            time.sleep(0.0001)
            continue
        assert len(chunk.records) <= bytes_max or len(chunk.starts) == 1
        assert before <= chunk.offsets[0]
        assert chunk.offsets[-1] < chunk.next_offset == reader.offset
        assert chunk.starts.dtype == chunk.offsets.dtype == np.int64
        found += [(int(o), chunk.record(i)) for i, o in enumerate(chunk.offsets.tolist())]
    return found


def put(url: str, name: str, data: bytes) -> None:
    """Write a file, with the folders it needs."""
    filesystem, root = fsspec.core.url_to_fs(url)
    path = f"{root}/{name}"
    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(path, data)


def orders(count: int, first: int = 0) -> list[Row]:
    """Rows that tell from which place they are."""
    return [
        {
            "user": f"user-{number % 7}",
            "at": 1_356_998_400_000_000 + number * 1_000_003,
            "amount": None if number % 5 == 0 else number / 3,
            "items": 2**53 + number,
            "is_gift": number % 2 == 0,
            "kind": ("WEB", "SHOP", None)[number % 3],
            "note": f'"{number}\\\n' if number % 4 else None,
        }
        for number in range(first, first + count)
    ]


def loads(records: Sequence[tuple[int, bytes]]) -> list[tuple[int, Any]]:
    """Offsets and what the JSON says."""
    return [(offset, json.loads(record)) for offset, record in records]
