"""From an archive to columns: the same payments in every form, read and decoded as a replay does.

Each form holds the same records in files of the same number of records, on a local disk; beside
them the file log holds them too. What is timed is all that the process does, in all of its
threads: those that read ahead, and the one that decodes. All forms take turns, and all are decoded
to the same values, which is looked at before anything is timed.

A second figure is what an archive costs before a replay begins: every file is looked at, lines are
counted, of Parquet only the end is read. A third one adds a delay to every request, as a store in a
network has, read ahead as it is, and in one thread.
"""

from __future__ import annotations

import argparse
import gzip
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from benchmarks._environment import describe, load_average, write
from benchmarks._table import load_line, show
from contracts.file_log import PartitionFile
from contracts.log import Chunk, PartitionReader
from contracts.plan import Column, Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.sources.archive import Archive, survey
from dataflows.sources.archive_log import ArchivedLog
from dataflows.sources.archive_patience import Patience
from dataflows.sources.archive_store import ArchiveStore
from dataflows.sources.decoding import make_decoder
from dataflows.sources.plan_log import LogPartition

COLUMNS = (
    Column("card", "string", False),
    Column("shop", "string", False),
    Column("amount", "float64", False),
    Column("at", "timestamp", False),
)
PAYMENTS = Topic("payments", COLUMNS, "at", 0, "card")
PLAN = Plan("bench", (PAYMENTS,), (), ())
ROUNDS = 3
DELAY_SECONDS = 0.02
FORMS = ("json", "json.gz", "json.zst", "value.parquet", "typed.parquet")
BEGIN_US = 1_700_000_000_000_000


class EndOfArchive:
    """Stands in for Kafka behind the archive: it has nothing."""

    kind = "kafka"

    def __init__(self, events: int) -> None:
        self.partitions = [LogPartition(0, PAYMENTS.name, 0)]
        self.topic_ids: dict[str, str] = {}
        self._events = events

    def begins(self) -> dict[int, int]:
        """It keeps nothing."""
        return {0: self._events}

    def ends(self) -> dict[int, int]:
        """Where the archive ends."""
        return {0: self._events}

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """Nobody reads this far."""
        raise AssertionError(f"opened at {offset}")

    def settle(self) -> None:
        """Nothing to be told."""

    def close(self) -> None:
        """Nothing is held."""


def table_of(first: int, end: int) -> pa.Table:
    """Payments as columns."""
    numbers = np.arange(first, end)
    return pa.table(
        {
            "card": pa.array([f"card-{n:06d}" for n in (numbers * 7919 % 100_000).tolist()]),
            "shop": pa.array([f"shop-{n:04d}" for n in (numbers % 5_000).tolist()]),
            "amount": pa.array(numbers % 100_000 / 4),
            "at": pa.array(BEGIN_US + numbers * 1_000, pa.timestamp("us", tz="UTC")),
        }
    )


def records_of(table: pa.Table) -> list[bytes]:
    """The same as JSON."""
    moments = table["at"].cast(pa.timestamp("us")).to_numpy()
    texts = np.datetime_as_string(moments, unit="us").tolist()
    rows = zip(
        table["card"].to_pylist(), table["shop"].to_pylist(), table["amount"].to_pylist(), texts,
        strict=True,
    )  # fmt: skip
    return [
        f'{{"card":"{card}","shop":"{shop}","amount":{amount},"at":"{at}Z"}}'.encode()
        for card, shop, amount, at in rows
    ]


def fill(folder: Path, events: int, events_of_file: int) -> None:
    """All forms, each in a folder of its own, and a file log."""
    for form in (*FORMS, "log"):
        (folder / form).mkdir()
    with (folder / "log" / "0.ndjson").open("wb") as log:
        for first in range(0, events, events_of_file):
            table = table_of(first, min(first + events_of_file, events))
            records = records_of(table)
            lines = b"\n".join(records) + b"\n"
            log.write(lines)
            values = pa.table({"value": pa.array(records, pa.binary())})
            for form in FORMS:
                extension = form.removeprefix("value.").removeprefix("typed.")
                path = folder / form / f"payments+0+{first:010d}.{extension}"
                if form == "json":
                    path.write_bytes(lines)
                elif form == "json.gz":
                    path.write_bytes(gzip.compress(lines, 6))
                elif form == "json.zst":
                    path.write_bytes(pa.Codec("zstd").compress(lines, asbytes=True))
                else:
                    pq.write_table(values if form.startswith("value") else table, path)


def read(reader: PartitionReader, end: int, bytes_max: int, sink: Callable[[Chunk], int]) -> float:
    """All up to an offset, through ``sink``; CPU-seconds."""
    cpu = time.process_time()
    found = 0
    while reader.offset < end:
        chunk = reader.read(bytes_max)
        if chunk is None:
            time.sleep(0.001)
            continue
        found += sink(chunk)
    assert found, "nothing was read"
    return time.process_time() - cpu


def decoder() -> Callable[[Chunk], int]:
    """What decodes a chunk and tells how many records it had."""
    made = make_decoder(PAYMENTS)

    def decode(chunk: Chunk) -> int:
        decoded = made.decode(chunk)
        assert not decoded.bad
        return len(decoded.event_us)

    return decode


class Measured:
    """One form: what it was looked at, and how it is read."""

    def __init__(self, folder: Path, events: int) -> None:
        self._settings = DataflowSettings.for_repo(folder, archive_url=str(folder))
        self._events = events
        cpu, wall = time.process_time(), time.perf_counter()
        self.archive: Archive = survey(self._settings, PLAN)
        self.look = {
            "cpu_seconds": time.process_time() - cpu,
            "seconds": time.perf_counter() - wall,
        }

    def read(self, sink: Callable[[Chunk], int]) -> tuple[float, float]:
        """All records; CPU-seconds and seconds."""
        wall = time.perf_counter()
        log = ArchivedLog(EndOfArchive(self._events), self.archive, self._settings)
        try:
            reader = log.open(log.partitions[0], None)
            cpu = read(reader, self._events, self._settings.batch_bytes, sink)
            return cpu, time.perf_counter() - wall
        finally:
            log.close()


def read_log(folder: Path, bytes_max: int, sink: Callable[[Chunk], int]) -> tuple[float, float]:
    """The file log; CPU-seconds and seconds."""
    path = folder / "log" / "0.ndjson"
    wall = time.perf_counter()
    reader = PartitionFile(path, 0)
    try:
        cpu = read(reader, path.stat().st_size, bytes_max, sink)
        return cpu, time.perf_counter() - wall
    finally:
        reader.close()


def columns_of(read_all: Callable[[Callable[[Chunk], int]], object]) -> Iterator[Any]:
    """The values of all columns, in order of name."""
    made = make_decoder(PAYMENTS)
    found: dict[str, list[Any]] = {column.name: [] for column in COLUMNS}

    def take(chunk: Chunk) -> int:
        decoded = made.decode(chunk)
        assert not decoded.bad
        for name, values in decoded.columns.items():
            found[name] += list(values)
        return len(decoded.event_us)

    read_all(take)
    yield from found.values()


def check(ways: dict[str, Callable[[Callable[[Chunk], int]], object]]) -> None:
    """Raise AssertionError unless all ways give the same values."""
    wanted = list(columns_of(ways["log"]))
    for name, way in ways.items():
        assert list(columns_of(way)) == wanted, f"{name} gives other values"


class FarFiles(LocalFileSystem):  # type: ignore[misc] # fsspec has no types
    """The local disk, each request to which takes its time."""

    protocol = "far"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("far://")))

    def info(self, path: str, **named: Any) -> Any:
        """As of the disk, later."""
        time.sleep(DELAY_SECONDS)
        return super().info(path, **named)

    def _open(self, path: str, *given: Any, **named: Any) -> Any:
        return _FarFile(super()._open(path, *given, **named))


class _FarFile:
    """A file whose reads take their time."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int) -> Any:
        """As of the disk, later."""
        time.sleep(DELAY_SECONDS)
        return self._file.read(size)


def far_away(folder: Path, form: str, events: int) -> dict[str, float]:
    """Seconds to read and decode a form from afar, read ahead and not; the best of three."""
    settings = DataflowSettings.for_repo(folder, archive_url=f"far://{folder / form}")
    archive = survey(settings, PLAN)
    ahead, alone = [], []
    for _ in range(ROUNDS):
        wall = time.perf_counter()
        log = ArchivedLog(EndOfArchive(events), archive, settings)
        read(log.open(log.partitions[0], None), events, settings.batch_bytes, decoder())
        ahead.append(time.perf_counter() - wall)
        log.close()
        wall = time.perf_counter()
        store = ArchiveStore(archive.url, Patience(1))
        sink = decoder()
        for file in archive.files[PAYMENTS.name, 0]:
            for chunk in file.chunks(store, file.first, settings.batch_bytes):
                sink(chunk)
        alone.append(time.perf_counter() - wall)
    return {"seconds_read_ahead": min(ahead), "seconds_in_one_thread": min(alone)}


def measure(folder: Path, events: int, events_of_file: int) -> dict[str, Any]:
    """All figures; the best of three rounds, in which all forms take turns."""
    fill(folder, events, events_of_file)
    bytes_max = DataflowSettings.for_repo(folder).batch_bytes
    forms = {form: Measured(folder / form, events) for form in FORMS}
    ways: dict[str, Callable[[Callable[[Chunk], int]], Any]] = {
        "log": lambda sink: read_log(folder, bytes_max, sink),
        **{form: measured.read for form, measured in forms.items()},
    }
    check(ways)
    rounds = [
        {name: (way(lambda chunk: len(chunk.starts)), way(decoder())) for name, way in ways.items()}
        for _ in range(ROUNDS)
    ]
    figures: dict[str, Any] = {"events": events, "events_of_file": events_of_file}
    figures["checked"] = {"values": events * len(COLUMNS), "equal_in_all_forms": True}
    for name in ways:
        cpu = [min(found[name][i][0] for found in rounds) for i in (0, 1)]
        figures[name] = {
            "bytes": sum(path.stat().st_size for path in (folder / name).iterdir()),
            "events_per_cpu_second_read": events / cpu[0],
            "events_per_cpu_second_read_and_decoded": events / cpu[1],
            "seconds_decoded": min(found[name][1][1] for found in rounds),
            "cpu_seconds_decoded_of_rounds": [found[name][1][0] for found in rounds],
        }
        if name in forms:
            figures[name]["look"] = forms[name].look
    fsspec.register_implementation("far", FarFiles, clobber=True)
    figures["far_away"] = {form: far_away(folder, form, events) for form in FORMS}
    return figures


def main() -> None:
    """Fill, check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--events-of-file", type=int, default=100_000)
    parser.add_argument("--output", type=Path, default=Path("build/bench/archive.json"))
    options = parser.parse_args()
    load = load_average()
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder:
        figures = measure(Path(folder), options.events, options.events_of_file)
    environment = describe(["fsspec", "msgspec", "numpy", "pyarrow"])
    write(options.output, {"environment": environment, "load_average_before": load, **figures})
    show(
        f"{options.events:,} payments, the same values in every form; events per CPU-second; "
        + load_line(load, os.cpu_count()),
        ("", "read", "and decoded", "seconds", "MB", "look, CPU-seconds"),
        [
            (
                "file log" if name == "log" else name,
                f"{figures[name]['events_per_cpu_second_read']:,.0f}",
                f"{figures[name]['events_per_cpu_second_read_and_decoded']:,.0f}",
                f"{figures[name]['seconds_decoded']:.2f}",
                f"{figures[name]['bytes'] / 1e6:.1f}",
                f"{figures[name]['look']['cpu_seconds']:.3f}" if name != "log" else "",
            )
            for name in ("log", *FORMS)
        ],
    )
    show(
        f"Seconds to read and decode when each request takes {DELAY_SECONDS * 1000:.0f} ms",
        ("", "read ahead", "in one thread"),
        [
            (form, *(f"{seconds:.2f}" for seconds in figures["far_away"][form].values()))
            for form in FORMS
        ],
    )


if __name__ == "__main__":
    main()
