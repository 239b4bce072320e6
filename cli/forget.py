"""`headwater forget`: removes what is stored of an entity, and sees to it that it stays away."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.inputs import Scalar, Text, as_type, parse_inputs
from cli.repository_option import RepoOption, require_repository
from cli.tables import print_table

if TYPE_CHECKING:
    from contracts.feature_schema import ValueType
    from dataflows.definitions.repository import Repository
    from dataflows.erasure.report import Report
    from dataflows.erasure.wanted import Wanted

EXAMPLE = "headwater forget tailnum N14228 N24211 --dry-run"
_PLAIN_SECONDS = 5.0
_WORD = re.compile(r"(?P<name>[^=:]+):?=")


def forget(
    entity: Annotated[
        str, typer.Argument(help="A Feast entity or a join key; several with commas.")
    ],
    keys: Annotated[
        list[str], typer.Argument(metavar="KEY", help="Keys; of several join keys each name=value.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be removed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    repo: RepoOption = None,
) -> None:
    """Remove an entity from stores, examples and state, and leave a tombstone that replays honour.

    What has further join keys is removed as well: who forgets a user forgets what the user did in
    each shop. A running dataflow is made to end; start `headwater run` again afterwards. Events
    that come later count as those of somebody new. An erasure that was interrupted is finished by
    the same command.
    """
    from cli.actor import actor
    from cli.loading import load_quietly
    from contracts.settings import DataflowSettings
    from dataflows.erasure import job

    folder = require_repository(repo)
    settings = DataflowSettings.for_repo(folder)
    repository = load_quietly(folder)
    wanted = _wanted(repository, entity, keys)
    with _told() as tell:
        if dry_run:
            report = job.preview(repository, settings, wanted, tell)
        else:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            asked = job.Asked(wanted, at, actor())
            report = job.forget(repository, settings, asked, tell)
    if as_json:
        typer.echo(json.dumps(report.as_plain(), indent=2))
    else:
        _print(report)


def _wanted(repository: Repository, entity: str, words: Sequence[str]) -> list[Wanted]:
    from dataflows.erasure.wanted import join_keys_of, wanted_entities

    names = join_keys_of(repository.plan, repository.entities, entity)
    rows: list[tuple[Scalar, ...]]
    if len(names) == 1:
        own = {names[0], entity.strip()}
        rows = [(_single(word, own),) for word in words]
    else:
        given = parse_inputs(words)
        if given.keys() != set(names):
            raise typer.BadParameter(f"give each of {', '.join(names)} as name=value, once")
        rows = [tuple(given[name] for name in names)]

    def typed(kind: ValueType) -> list[list[str | int | None]]:
        return [[_typed(value, kind) for value in row] for row in rows]

    return wanted_entities(repository.plan, names, typed)


def _single(word: str, names: set[str]) -> Scalar:
    """A key as it stands, or behind the name of its entity."""
    match = _WORD.match(word)
    if match is None or match["name"] not in names:
        return Text(word)
    (value,) = parse_inputs([word]).values()
    return value


def _typed(value: Scalar, kind: ValueType) -> str | int | None:
    """The value as a key of this type; None if it is none."""
    if isinstance(value, Text) and kind == "string":
        return str(value)
    found = as_type(value, kind)
    wanted = str if kind == "string" else int
    return found if type(found) is wanted and isinstance(found, str | int) else None


def _print(report: Report) -> None:
    names = ", ".join(report.join_keys)
    what = f"{report.entities} of {names}" if report.entities > 1 else names
    if report.removed:
        rows = [(one.where, one.name, f"{one.rows:,}") for one in report.removed]
        print_table(("store", "of", "would go" if report.is_dry else "removed"), rows)
    else:
        typer.echo(f"nothing is stored of this {what}")
    for one in report.remains:
        typer.echo(f"{one.where}: {one.what}")
    if not report.is_dry:
        numbers = ", ".join(map(str, report.tombstones))
        typer.echo(f"tombstone {numbers} is left; start `headwater run` again")


@contextmanager
def _told() -> Iterator[Callable[[str, int, int], None]]:
    """Shows how far the log was read: a bar on a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    said_at = time.monotonic()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:

        def tell(partition: str, offset: int, end: int) -> None:
            nonlocal said_at
            if console.is_terminal:
                if partition not in tasks:
                    tasks[partition] = progress.add_task(f"Reading {partition}", total=end)
                progress.update(tasks[partition], completed=offset, total=end)
            elif time.monotonic() - said_at > _PLAIN_SECONDS:
                said_at = time.monotonic()
                sys.stderr.write(f"reading {partition}: {offset / max(end, 1):.0%}\n")

        yield tell
