"""The records of the flights as a file log: written at once, or played minute by minute."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cli.demo.csv_files import TIME_FIELD
from cli.demo.flights import SCHEDULED_TOPIC

# What JSON does not allow inside a string as it stands.
_ESCAPED = r'["\\\x00-\x1f]'


@dataclass(frozen=True)
class Counts:
    """How many records each topic got."""

    records: Mapping[str, int]

    @property
    def total(self) -> int:
        """Records of all topics together."""
        return sum(self.records.values())


@dataclass(frozen=True)
class Step:
    """One minute in which flights are scheduled to depart, and what became known before it.

    Append ``updates``, then ``scheduled``, then score ``flights``.

    Attributes:
        at_us: the scheduled departure of all ``flights``, microseconds since 1970 UTC.
        updates: topic -> lines with event times from the previous step on, before ``at_us``. What
            happens at ``at_us`` itself comes with the next step: a prediction must not see it.
        scheduled: lines of ``flights.scheduled`` at ``at_us``.
        flights: the same records, one dict each, by field name.
    """

    at_us: int
    updates: Mapping[str, bytes]
    scheduled: bytes
    flights: tuple[dict[str, Any], ...]


class FlightLog:
    """Records by topic, and their lines as they stand in a log."""

    def __init__(self, records: Mapping[str, pa.Table]) -> None:
        """Encode every record; tables as ``flight_records`` gives them, sorted by time."""
        self._tables = dict(records)
        self._times = {
            topic: table[TIME_FIELD].to_numpy().astype(np.int64) for topic, table in records.items()
        }
        self._lines = {topic: encode_lines(table) for topic, table in records.items()}

    def write(self, directory: Path, until_us: int | None = None) -> Counts:
        """Write a new log: ``directory/TOPIC/0.ndjson``, all topics.

        Args:
            directory: where topics are created; files that are already there are replaced.
            until_us: only records before this event time; None for all.
        """
        counts = {}
        for topic, times in self._times.items():
            end = len(times) if until_us is None else int(np.searchsorted(times, until_us))
            path = _partition_file(directory, topic)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._between(topic, 0, end))
            counts[topic] = end
        return Counts(counts)

    def play_steps(self, from_us: int) -> Iterator[Step]:
        """Everything from ``from_us`` on, one step for each minute with scheduled departures.

        A last step without flights brings what became known after the last departure, so that
        ``write(directory, until_us=from_us)`` and all steps make the whole log.
        """
        spine = self._times[SCHEDULED_TOPIC]
        start = int(np.searchsorted(spine, from_us))
        moments, firsts = np.unique(spine[start:], return_index=True)
        ends = np.append(firsts[1:], len(spine) - start)
        done = {
            topic: int(np.searchsorted(times, from_us))
            for topic, times in self._times.items()
            if topic != SCHEDULED_TOPIC
        }
        for at_us, first, end in zip(moments.tolist(), firsts, ends, strict=True):
            updates = self._updates(done, at_us)
            rows = slice(start + int(first), start + int(end))
            yield self._step(at_us, updates, rows)
        last_us = max((int(times[-1]) for times in self._times.values() if len(times)), default=0)
        end_us = max(last_us + 1, from_us)
        yield self._step(end_us, self._updates(done, end_us), slice(len(spine), len(spine)))

    def _step(self, at_us: int, updates: dict[str, bytes], rows: slice) -> Step:
        flights = self._tables[SCHEDULED_TOPIC].slice(rows.start, rows.stop - rows.start)
        lines = self._between(SCHEDULED_TOPIC, rows.start, rows.stop)
        return Step(at_us, updates, lines, tuple(flights.to_pylist()))

    def _updates(self, done: dict[str, int], before_us: int) -> dict[str, bytes]:
        """The lines before that moment that are not done yet; moves ``done`` on."""
        updates = {}
        for topic, begin in done.items():
            end = int(np.searchsorted(self._times[topic], before_us))
            if end > begin:
                updates[topic] = self._between(topic, begin, end)
                done[topic] = end
        return updates

    def _between(self, topic: str, begin: int, end: int) -> bytes:
        """Lines ``begin`` to ``end``: the array keeps them next to each other in one buffer."""
        lines = self._lines[topic]
        _, offsets, text = lines.buffers()
        if end <= begin or text is None:
            return b""
        ends = np.frombuffer(offsets, dtype=np.int64, count=len(lines) + 1)
        chosen: bytes = text.slice(int(ends[begin]), int(ends[end] - ends[begin])).to_pybytes()
        return chosen


def append_lines(directory: Path, lines: Mapping[str, bytes]) -> None:
    """Append whole lines (topic -> lines) to partition 0 of their topics, which must exist.

    Raises:
        FileNotFoundError: a topic is not there; write the log first.
    """
    paths = {topic: _partition_file(directory, topic) for topic in lines}
    for path in paths.values():
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; write the log before appending to it")
    with ExitStack() as stack:
        files = {t: stack.enter_context(p.open("ab", buffering=0)) for t, p in paths.items()}
        # All are open before the first is written, so that the topics get theirs at one moment.
        for topic, text in lines.items():
            files[topic].write(text)


def encode_lines(table: pa.Table) -> pa.LargeStringArray:
    """One JSON object with a newline for each row, fields in the table's order.

    ``event_timestamp`` (microseconds) becomes ISO-8601 UTC, to the second. Column types: string,
    integer, double; nulls become ``null``.
    """
    parts: list[str | pa.ChunkedArray] = []
    for number, name in enumerate(table.column_names):
        parts.append(("," if number else "{") + json.dumps(name) + ":")
        column = table[name]
        parts.append(_iso_times(column) if name == TIME_FIELD else _values(column))
    parts.append("}\n")
    joined = _join(*parts)
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _join(*parts: str | pa.ChunkedArray) -> pa.ChunkedArray:
    """The parts one after another, row by row; a null makes the row null."""
    arrays = [pa.scalar(p, pa.large_string()) if isinstance(p, str) else p for p in parts]
    return pc.binary_join_element_wise(*arrays, pa.scalar("", pa.large_string()))


def _iso_times(times_us: pa.ChunkedArray) -> pa.ChunkedArray:
    seconds = pc.divide(times_us, 1_000_000).cast(pa.timestamp("s", "UTC"))
    text = pc.replace_substring(seconds.cast(pa.large_string()), " ", "T")
    return _join('"', text, '"')


def _values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = column.cast(pa.large_string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = _quoted(text)
    return pc.fill_null(text, "null")


def _quoted(text: pa.ChunkedArray) -> pa.ChunkedArray:
    if pc.any(pc.match_substring_regex(text, _ESCAPED)).as_py():
        quoted = [None if value is None else json.dumps(value) for value in text.to_pylist()]
        return pa.chunked_array([pa.array(quoted, pa.large_string())])
    return _join('"', text, '"')


def _partition_file(directory: Path, topic: str) -> Path:
    return directory / topic / "0.ndjson"
