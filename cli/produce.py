"""`headwater produce`: lines of JSON into the log."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from cli.failures import CommandError
from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from cli.records import Record
    from contracts.kafka_producer import KafkaLogWriter
    from contracts.log import LogWriter
    from contracts.plan import Topic
    from contracts.settings import ClientSettings

_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_PLAIN_SECONDS = 5.0

Advance = Callable[[int, int], None]
Read = Callable[[int], bytes]


class _StoppedError(Exception):
    """A signal has asked to end; everything that was read is in the log."""


def produce(
    topic: Annotated[str, typer.Argument(help="Name of the topic; made if it is new.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="Lines of JSON; else standard input.", exists=True, dir_okay=False),
    ] = None,
    repo: RepoOption = None,
) -> None:
    """Append records to a topic of the log: one JSON object a line, from FILE or standard input.

    The partition is chosen by the hash of the topic's key field, as `headwater apply` left it, so
    records of one key stay in order. The first line that is not a JSON object ends it with exit 1:
    what stands before that line has been written, and the message says how much that is. So do
    Ctrl-C and SIGTERM: what was read by then is written.
    """
    from contracts.log import LogError
    from contracts.settings import ClientSettings

    if not _TOPIC.fullmatch(topic):
        raise typer.BadParameter(f"topic {topic!r}: use letters, digits, dots, - and _")
    folder = require_repository(repo, unless_set="HEADWATER_LOG_URL")
    settings = ClientSettings.for_repo(folder)
    topics = _topics(folder)
    key_field = _key_field(topics, topic)
    if topics and key_field is None:
        known = ", ".join(topics)
        sys.stderr.write(f"note: nothing applied here reads {topic}; the topics are {known}\n")
    writer = _writer(settings, topic, key_field)
    try:
        if file is None:
            count = _append(sys.stdin.buffer, "standard input", writer, topic, key_field, None)
        else:
            with file.open("rb") as stream:
                size = file.stat().st_size
                count = _append(stream, str(file), writer, topic, key_field, size)
    except BaseException:
        # What went wrong first is what matters.
        with suppress(LogError):
            writer.close()
        raise
    writer.close()
    sys.stderr.write(f"{count:,} {'record' if count == 1 else 'records'} written to {topic}\n")


class _Keyless:
    """Writes to Kafka without keys, where nothing says what the key of a record is.

    A hash of the whole record would do for the partition, but Kafka stores the key as well.
    """

    def __init__(self, writer: KafkaLogWriter) -> None:
        self._writer = writer
        self.close = writer.close

    @property
    def acknowledged(self) -> int:
        return self._writer.acknowledged

    def append(self, records: Iterable[Record]) -> int:
        return self._writer.append((None, record) for _, record in records)


def _writer(settings: ClientSettings, topic: str, key_field: str | None) -> LogWriter:
    """What appends to the topic in the log of the settings."""
    log = settings.log
    if log.folder is None:
        from contracts.kafka_producer import KafkaLogWriter

        writer = KafkaLogWriter(settings, topic, "headwater-produce")
        return _Keyless(writer) if key_field is None else writer
    from contracts.file_log import FileLogWriter

    try:
        return FileLogWriter(log.folder, topic)
    except OSError as error:
        raise CommandError(f"cannot write the log in {log.folder}: {error.strerror}") from error


def _topics(folder: Path) -> dict[str, Topic]:
    """The topics of what was applied, by name; none if nothing was."""
    from contracts.plan_file import PlanFileError, plan_path, read_plan

    path = plan_path(folder)
    if not path.exists():
        return {}
    try:
        return {one.name: one for one in read_plan(path).plan.topics}
    except PlanFileError as error:
        raise CommandError(str(error)) from error


def _key_field(topics: Mapping[str, Topic], topic: str) -> str | None:
    """The field whose hash chooses the partition; None where nothing was applied for the topic."""
    if topic not in topics:
        return None
    found = topics[topic]
    if found.format != "json" or found.framing != "none":
        framed = "" if found.framing == "none" else f" with {found.framing} framing"
        raise CommandError(
            f"topic {topic} holds {found.format}{framed}, and produce writes plain JSON: use a "
            "producer that has the topic's serializer"
        )
    return found.key_field


def _append(
    stream: BinaryIO,
    source: str,
    writer: LogWriter,
    topic: str,
    key_field: str | None,
    size_bytes: int | None,
) -> int:
    """Append everything; return how many records. Raise CommandError at the first bad line."""
    from cli.records import RecordReader
    from contracts.log import LogError

    count = 0
    with _read_until_signal(stream) as read, _progress(topic, size_bytes) as advance:
        reader = RecordReader(read, key_field)
        try:
            for records, error in reader.blocks():
                count += writer.append(records)
                if error is not None:
                    raise CommandError(
                        f"{source}: {error}; {count:,} records before it were written to {topic}: "
                        f"mend the line and produce the rest from line {error.line} on"
                    )
                advance(reader.bytes_read, count)
        except _StoppedError:
            raise CommandError(f"interrupted; {count:,} records were written to {topic}") from None
        except LogError as error:
            count = getattr(writer, "acknowledged", count)
            raise CommandError(f"{error}; {count:,} records were written before") from error
    return count


@contextmanager
def _read_until_signal(stream: BinaryIO) -> Iterator[Read]:
    """A function that reads the stream, and raises _StoppedError where SIGINT or SIGTERM came.

    Only between two reads or in one: what was read is written first. A second signal ends at once.
    """
    asked = False

    def on_signal(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    # A signal that comes just before a read would not end the read; a byte in a pipe does.
    source = stream.fileno()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)

    def read(size: int) -> bytes:
        ready, _, _ = select.select([source, woken], [], [])
        if asked or woken in ready:
            raise _StoppedError
        # A pipe gives what it has, so that a slow producer's records are in the log at once.
        return os.read(source, size)

    before = {one: signal.signal(one, on_signal) for one in (signal.SIGINT, signal.SIGTERM)}
    woke_before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(woke_before)
        for one, handler in before.items():
            signal.signal(one, handler)
        os.close(woken)
        os.close(wake)


@contextmanager
def _progress(topic: str, size_bytes: int | None) -> Iterator[Advance]:
    """A function to be called with bytes read and records written: a bar, or a line now and then.

    What comes from a pipe has no size: then the bar only counts.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(topic)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(topic, total=size_bytes)

        def advance(bytes_read: int, count: int) -> None:
            bar.update(task, completed=bytes_read, description=f"{topic} {count:,} records")

        yield advance


def _plain_lines(topic: str) -> Advance:
    due = time.monotonic() + _PLAIN_SECONDS

    def advance(bytes_read: int, count: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + _PLAIN_SECONDS
            sys.stderr.write(f"{topic}: {count:,} records, {bytes_read:,} bytes read\n")

    return advance
