"""`headwater plan`: what definitions change, which replay that takes, and how long."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from contracts.settings import DataflowSettings
    from dataflows.changes.compiled import Compiled
    from dataflows.changes.report import Measured


def plan(
    revision: Annotated[
        str,
        typer.Argument(
            metavar="REV", help="A commit, branch or tag; without it the files as they are."
        ),
    ] = "",
    repo: RepoOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what definitions change, which replay that takes, and how long. Changes nothing.

    Compared are the definitions in the folder, or those of commit REV, with those that the state
    was made of. The last lines say what to do next.
    """
    from cli.plan_report import as_data, as_lines
    from contracts.settings import DataflowSettings
    from dataflows.changes.origin import origin_of
    from dataflows.changes.report import make_report

    folder = require_repository(repo)
    settings = DataflowSettings.for_repo(folder)
    commit, new = _definitions(folder, revision)
    seen = _measured(settings, new)
    report = make_report(origin_of(folder, settings, new), new, seen, commit)
    if as_json:
        typer.echo(json.dumps(as_data(report), indent=2))
    else:
        typer.echo("\n".join(as_lines(report)))


def _definitions(folder: Path, revision: str) -> tuple[str, Compiled]:
    """(the commit's full name, its definitions); of the working tree without a revision."""
    from dataflows.changes.compiled import compiled, compiled_elsewhere
    from dataflows.changes.git_tree import extract_folder, find_commit

    if not revision:
        from cli.loading import load_quietly

        return "", compiled(load_quietly(folder))
    commit = find_commit(folder, revision)
    with tempfile.TemporaryDirectory(prefix="headwater-plan-") as temporary:
        # The same name as ever: a Protobuf class may be looked up beside it.
        files = Path(temporary).resolve() / folder.name
        files.mkdir()
        extract_folder(folder, commit, files)
        answer = Path(temporary) / "answer.json"
        return commit, compiled_elsewhere(files, answer, f"commit {commit[:12]}")


def _measured(settings: DataflowSettings, new: Compiled) -> Measured:
    from dataflows.changes.log_extent import log_extent
    from dataflows.changes.rate import known_rate
    from dataflows.changes.report import Measured

    return Measured(
        log=log_extent(settings, new.made_of.plan),
        shards=settings.shards,
        rate=known_rate(settings.state_dir),
        newest_us=_newest_us(settings.state_dir),
    )


def _newest_us(state: Path) -> int:
    """The newest event time that the dataflow has read; the time now if it has read none."""
    from dataflows.flow.progress import read_progress
    from dataflows.watermark import NOT_YET

    try:
        workers = read_progress(state)
    except (OSError, ValueError):
        workers = []
    newest_us = max(
        (one.newest_us for worker in workers for one in worker.partitions.values()),
        default=NOT_YET,
    )
    return time.time_ns() // 1000 if newest_us <= NOT_YET else newest_us
