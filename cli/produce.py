"""`headwater produce`: lines of JSON into the log."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from cli.failures import CommandError
from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from contracts.file_log import FileLogWriter

_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_PLAIN_SECONDS = 5.0

Advance = Callable[[int, int], None]


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
    what stands before that line has been written, and the message says how much that is.
    """
    from contracts.file_log import FileLogWriter
    from contracts.settings import ClientSettings

    if not _TOPIC.fullmatch(topic):
        raise typer.BadParameter(f"topic {topic!r}: use letters, digits, dots, - and _")
    folder = require_repository(repo, unless_set="HEADWATER_LOG_URL")
    log = ClientSettings.for_repo(folder).log
    if log.folder is None:
        raise CommandError("HEADWATER_LOG_URL must be file:///DIR; kafka:// cannot be written yet")
    key_field = _key_field(folder, topic)
    try:
        writer = FileLogWriter(log.folder, topic)
    except OSError as error:
        raise CommandError(f"cannot write the log in {log.folder}: {error.strerror}") from error
    try:
        if file is None:
            count = _append(sys.stdin.buffer, "standard input", writer, topic, key_field, None)
        else:
            with file.open("rb") as stream:
                size = file.stat().st_size
                count = _append(stream, str(file), writer, topic, key_field, size)
    finally:
        writer.close()
    sys.stderr.write(f"{count:,} records written to {topic}\n")


def _key_field(folder: Path, topic: str) -> str | None:
    """The field whose hash chooses the partition; None where nothing was applied for the topic."""
    from contracts.plan_file import PlanFileError, plan_path, read_plan

    path = plan_path(folder)
    if not path.exists():
        return None
    try:
        topics = {one.name: one.key_field for one in read_plan(path).plan.topics}
    except PlanFileError as error:
        raise CommandError(str(error)) from error
    return topics.get(topic)


def _append(
    stream: BinaryIO,
    source: str,
    writer: FileLogWriter,
    topic: str,
    key_field: str | None,
    size_bytes: int | None,
) -> int:
    """Append everything; return how many records. Raise CommandError at the first bad line."""
    from cli.records import RecordReader

    # A pipe gives what it has, so that a slow producer's records are in the log at once.
    read = getattr(stream, "read1", stream.read)
    reader = RecordReader(read, key_field)
    count = 0
    with _progress(topic, size_bytes) as advance:
        for records, error in reader.blocks():
            count += writer.append(records)
            if error is not None:
                raise CommandError(
                    f"{source}: {error}; {count:,} records before it were written to {topic}: "
                    f"mend the line and produce the rest from line {error.line} on"
                )
            advance(reader.bytes_read, count)
    return count


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
