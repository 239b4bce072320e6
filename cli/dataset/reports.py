"""What `headwater dataset` says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

from cli.failures import CommandError
from cli.moments import shown
from cli.tables import print_table

if TYPE_CHECKING:
    from dataflows.datasets.catalogue import Catalogue
    from dataflows.datasets.checking import Checked
    from dataflows.datasets.differences import DayDifference
    from dataflows.datasets.manifest import DatasetManifest

_COLUMNS_SHOWN = 5
_DAYS_SHOWN = 40


def print_made(manifest: DatasetManifest, folder: Path, twins: list[str]) -> None:
    """A data set that was just built."""
    figures = manifest.figures
    facts = [
        ("rows", f"{figures.rows:,}, {figures.labelled:,} of them labelled"),
        ("predictions", _stretch(manifest)),
        ("commit", _commit(manifest)),
        *((f"log {one.name}", f"{one.first} to {one.end}") for one in manifest.log.partitions),
        ("digest", f"sha256:{figures.digest}"),
        ("folder", str(folder)),
    ]
    print_table(("fact", "value"), facts)
    if twins:
        typer.echo(f"the same rows as in {', '.join(twins)}")
    typer.echo(f"{manifest.model}: data set {manifest.name} is built")


def print_list(catalogue: Catalogue, *, as_json: bool) -> None:
    """All data sets; one whose manifest cannot be read is told on standard error."""
    from dataflows.datasets.errors import DatasetError

    found: list[DatasetManifest] = []
    for name in catalogue.names():
        try:
            found.append(catalogue.manifest(name))
        except DatasetError as error:
            sys.stderr.write(f"{error}\n")
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    header = ("name", "model", "rows", "labelled", "predictions", "commit", "built", "digest")
    rows = [
        (
            one.name,
            one.model,
            f"{one.figures.rows:,}",
            f"{one.figures.labelled:,}",
            _stretch(one),
            _commit(one),
            one.created,
            one.figures.digest[:16],
        )
        for one in found
    ]
    print_table(header, rows)


def print_check(checked: Checked) -> None:
    """What a check found; raise CommandError unless all is as it was."""
    from dataflows.datasets.checking import damage, rebuilding

    manifest, differences = checked.manifest, checked.differences
    if differences:
        header = ("table", "day", "rows then", "rows now", "columns that differ (rows)")
        print_table(header, [_difference(one) for one in differences[:_DAYS_SHOWN]])
        if len(differences) > _DAYS_SHOWN:
            typer.echo(f"and {len(differences) - _DAYS_SHOWN} more days")
    for note in checked.notes:
        typer.echo(f"note: {note}")
    if differences:
        days = sorted({one.day for one in differences})
        several = f"{len(days)} days, the first is {days[0]}" if len(days) > 1 else days[0]
        also = f"; also, {damage(manifest, checked.damaged)}" if checked.damaged else ""
        why = "see the notes above" if checked.notes else "records in its range were changed"
        raise CommandError(
            f"data set {manifest.name!r} comes out otherwise now: {several}; {why}{also}"
        )
    if checked.damaged:
        raise CommandError(
            f"{damage(manifest, checked.damaged)}, but the log still gives the data set: "
            f"{rebuilding(manifest)}"
        )
    rows = f"{manifest.figures.rows:,} rows, digest {manifest.figures.digest[:16]}"
    typer.echo(f"{manifest.name}: the same again ({rows})")


def _difference(one: DayDifference) -> tuple[str, ...]:
    shown_columns = [f"{name} ({n:,})" for name, n in list(one.columns.items())[:_COLUMNS_SHOWN]]
    if len(one.columns) > _COLUMNS_SHOWN:
        shown_columns.append(f"and {len(one.columns) - _COLUMNS_SHOWN} more")
    return (one.table, one.day, f"{one.rows_then:,}", f"{one.rows_now:,}", ", ".join(shown_columns))


def _stretch(manifest: DatasetManifest) -> str:
    first, last = manifest.figures.first_us, manifest.figures.last_us
    return "none" if first is None or last is None else f"{shown(first)} to {shown(last)}"


def _commit(manifest: DatasetManifest) -> str:
    origin = manifest.origin
    changes = " with changes" if origin.has_changes else ""
    return (origin.commit[:12] or "none") + changes
