"""An archive of the log: which files there are, what they hold, and whether anything is missing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from contracts.log import Chunk, LogError
from contracts.plan import Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.sources.archive_lines import count_lines, line_chunks
from dataflows.sources.archive_names import ArchiveName, parse_name
from dataflows.sources.archive_parquet import ParquetRecords, Rows
from dataflows.sources.archive_patience import Patience
from dataflows.sources.archive_store import ArchiveBytes, ArchiveStore, StoredFile, changed

# Files that are looked at side by side: from afar most of it is waiting.
LOOKING_THREADS = 4

Place = tuple[str, int]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedFile:
    """A file of a topic that the plan has, before anybody looked into it."""

    name: ArchiveName
    path: str


@dataclass(frozen=True)
class ArchivedFile:
    """A file and the offsets that it holds.

    Attributes:
        topic: how its records are written.
        behind: the offset after its last record.
        end: where the next file goes on; not ``behind`` if what follows up to there has offsets,
            but is no record (the end of a transaction is not).
    """

    name: ArchiveName
    stored: StoredFile
    topic: Topic
    behind: int
    end: int

    @property
    def first(self) -> int:
        """Offset of its first record."""
        return self.name.first

    def chunks(self, store: ArchiveStore, begin: int, piece_bytes: int) -> Iterator[Chunk]:
        """Its records from offset ``begin`` on; raise LogError."""
        path = self.stored.path
        reached = begin
        with closing(store.open(self.stored)) as file:
            if self.name.kind == "parquet":
                records = ParquetRecords(file, path, self.topic)
                found = records.chunks(self.first, begin, piece_bytes)
            else:
                found = line_chunks(
                    file, path, self.name.compression, self.first, begin, piece_bytes
                )
            for chunk in found:
                reached = chunk.next_offset
                if reached > self.behind:
                    break
                yield chunk
        if reached != max(self.behind, begin):
            raise changed(path)


@dataclass(frozen=True)
class Archive:
    """What an archive holds of the topics of a plan; nothing is missing in between.

    Attributes:
        url: where it is.
        shown: the same without a password.
        files: (topic, partition) -> its files, in order, each going on where the one before ends.
        notes: what was left out, for people.
    """

    url: str
    shown: str
    files: Mapping[Place, tuple[ArchivedFile, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """The files of an archive by their names; ``notes`` as in ``Archive``."""

    files: Mapping[Place, tuple[ListedFile, ...]]
    notes: tuple[str, ...]


def listing(store: ArchiveStore, plan: Plan) -> Listing:
    """The files of the plan's topics, in order of offset.

    Raises:
        LogError: there are none, or some of a kind that is not read.
    """
    topics = {topic.name for topic in plan.topics}
    found: dict[Place, list[ListedFile]] = {}
    others: list[str] = []
    unknown: Counter[str] = Counter()
    for path in store.files():
        parts = PurePosixPath(path).parts
        name = parse_name(parts[-1])
        # Sinks for HDFS keep what is not whole yet there.
        if name is None or "+tmp" in parts:
            others.append(path)
        elif name.topic not in topics:
            unknown[name.topic] += 1
        elif name.kind == "other":
            raise LogError(
                f"archive: {path} is of a kind that is not read: write lines of JSON "
                "(.json, .ndjson, .jsonl, with .gz or .zst) or .parquet, or move it away"
            )
        else:
            found.setdefault((name.topic, name.partition), []).append(ListedFile(name, path))
    if not found:
        also = f" (but of {', '.join(sorted(unknown)[:3])})" if unknown else ""
        raise LogError(
            f"archive {store.shown} has no file of {', '.join(sorted(topics))}{also}; they are "
            "named TOPIC+PARTITION+FIRSTOFFSET.json or .parquet: look at HEADWATER_ARCHIVE_URL"
        )
    notes = [f"{count} files of {name}, which no view reads" for name, count in unknown.items()]
    if others:
        notes.append(f"{len(others)} files of other names, such as {others[0]}")
    ordered = {
        place: tuple(sorted(files, key=lambda file: (file.name.first, file.path)))
        for place, files in sorted(found.items())
    }
    return Listing(ordered, tuple(notes))


def survey(
    settings: DataflowSettings,
    plan: Plan,
    patience: Patience | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Archive:
    """Look at every file of the plan's topics: lines are counted, of Parquet the end is read.

    Args:
        settings: name the archive.
        plan: whose topics are looked for.
        patience: with a store that is gone; by default that of the settings.
        progress: called with how many files were looked at, and how many there are.

    Raises:
        LogError: a file cannot be read, offsets are missing or twice there, or nothing is there.
    """
    url = settings.archive_url
    store = ArchiveStore(url, patience or Patience(settings.outage_seconds))
    listed = listing(store, plan)
    files = [file for of_place in listed.files.values() for file in of_place]
    looked: dict[Place, list[ArchivedFile]] = {place: [] for place in listed.files}
    empty = 0
    pool = ThreadPoolExecutor(LOOKING_THREADS, thread_name_prefix="archive-survey")
    try:
        found = pool.map(lambda file: _look(store, plan.topic(file.name.topic), file), files)
        for done, file in enumerate(found, 1):
            progress(done, len(files))
            if file.end == file.first:
                empty += 1
                continue
            looked[file.name.topic, file.name.partition].append(file)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    for place, of_place in looked.items():
        _check_joints(place, of_place)
    notes = (*listed.notes, *([f"{empty} files without records"] if empty else []))
    for note in notes:
        _log.warning("archive: left out are %s", note)
    whole = {place: tuple(of_place) for place, of_place in looked.items() if of_place}
    return Archive(url, store.shown, whole, notes)


def _look(store: ArchiveStore, topic: Topic, file: ListedFile) -> ArchivedFile:
    """A file with the offset after its last record."""
    stored = store.look(file.path)
    with closing(ArchiveBytes(store, stored)) as data:
        if file.name.kind == "parquet":
            rows = ParquetRecords(data, file.path, topic).rows()
        else:
            _check_lines(topic, file.path)
            rows = Rows(count_lines(data, file.path, file.name.compression))
    behind = _behind(file.name, file.path, rows)
    end = behind if file.name.last is None else file.name.last + 1
    return ArchivedFile(file.name, stored, topic, behind, end)


def _behind(name: ArchiveName, path: str, rows: Rows) -> int:
    """The offset after the last record of a file, which has the offsets that its name says."""
    if rows.has_offsets and name.last is not None:
        # Such a name says what the file covers, and each record which offset it has.
        first, last = rows.offsets or (name.first, name.first - 1)
        if first < name.first or last > name.last:
            raise LogError(
                f"archive: {path} has records from offset {first} to {last}, which is not within "
                "what its name says: name it after what it covers"
            )
        return last + 1
    first, last = rows.offsets or (name.first, name.first + rows.count - 1)
    if first != name.first:
        raise LogError(
            f"archive: {path} begins with offset {first}, but its name says {name.first}: name it "
            "after its first record"
        )
    if name.last is not None and last != name.last:
        raise LogError(
            f"archive: {path} ends with offset {last} by its {rows.count} records, but with "
            f"{name.last} by its name: it was cut off or is not of this topic"
        )
    return last + 1


def _check_lines(topic: Topic, path: str) -> None:
    if topic.format != "json" or topic.framing != "none":
        raise LogError(
            f"archive: {path} holds lines, but {topic.name!r} is {topic.format} with framing "
            f"{topic.framing}: write Parquet with the bytes of each record in a column 'value'"
        )


def _check_joints(place: Place, files: Sequence[ArchivedFile]) -> None:
    name = f"{place[0]}/{place[1]}"
    for before, after in pairwise(files):
        if after.first > before.end:
            raise LogError(
                f"archive: {name} has no records from offset {before.end} (after "
                f"{before.stored.path}) to {after.first - 1} (before {after.stored.path}): put "
                "the files between them back"
            )
        if after.first < before.end:
            raise LogError(
                f"archive: {name} has records twice: {before.stored.path} goes to offset "
                f"{before.end - 1}, but {after.stored.path} begins with {after.first}: move one "
                "of them away"
            )
