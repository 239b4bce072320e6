"""`headwater dataset build|list|check`: examples of a commit and a range of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.actor import actor
from cli.dataset.apart import COMMAND, builder, make_ordered
from cli.dataset.reports import print_check, print_list, print_made
from cli.failures import CommandError
from cli.moments import TIME_FORMS, FromOption, micros
from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from dataflows.datasets.catalogue import Catalogue

dataset_app = typer.Typer(
    help="Build training data from a commit and a range of the log, and check it.",
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(help="Name of the data set.")]
ToOption = Annotated[
    datetime | None,
    typer.Option(
        "--to", formats=TIME_FORMS, metavar="TIME", help="Predictions before this moment, UTC."
    ),
]


@dataset_app.command(
    "build", epilog="Example: headwater dataset build late_arrival --to 2013-07-01"
)
def build(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    name: Annotated[
        str, typer.Option(help="Name of the data set.", show_default="MODEL-1, MODEL-2, ...")
    ] = "",
    from_time: FromOption = None,
    to_time: ToOption = None,
    like: Annotated[
        str,
        typer.Option(help="Commit and range of the log as this data set has them; else as now."),
    ] = "",
    allow_dirty: Annotated[
        bool,
        typer.Option("--allow-dirty", help="Also of definitions that are in no commit."),
    ] = False,
    repo: RepoOption = None,
) -> None:
    """Make the examples of a model from the log, with what they were made of.

    The model alone is run over the whole log by the definitions of the commit that is checked out,
    beside all else; no store, state or version changes. A data set is never changed: an
    interrupted build leaves none.
    """
    from dataflows.datasets import making
    from dataflows.datasets.manifest import Bounds

    folder = require_repository(repo)
    catalogue = _catalogue(folder)
    other = catalogue.manifest(like) if like else None
    bounds = Bounds(micros(from_time), micros(to_time))
    if other is not None and other.model != model:
        raise CommandError(f"data set {like!r} is of model {other.model!r}, not of {model!r}")
    if other is not None and bounds == Bounds():
        bounds = other.bounds
    wish = making.Wish(
        model=model,
        name=name or catalogue.free_name(model),
        bounds=bounds,
        takes_changes=allow_dirty,
        actor=actor(),
        at=datetime.now(UTC),
    )
    with catalogue.workplace(wish.name) as place:
        if other is None:
            made = making.build(folder, catalogue, wish, place, builder(place.lock))
        else:
            made = making.build_like(folder, catalogue, wish, place, builder(place.lock), other)
    print_made(made, catalogue.folder(made.name), catalogue.twins(made))


@dataset_app.command("list", epilog="Example: headwater dataset list --json")
def list_datasets(
    as_json: Annotated[bool, typer.Option("--json", help="All manifests, as JSON.")] = False,
    repo: RepoOption = None,
) -> None:
    """Show the data sets that there are."""
    print_list(_catalogue(require_repository(repo)), as_json=as_json)


@dataset_app.command("check", epilog="Example: headwater dataset check late_arrival-1")
def check(name: NameArgument, repo: RepoOption = None) -> None:
    """Make a data set again, by its commit and from its range of the log, and compare.

    Exit 0 if every row comes out the same and the stored files are as they were written; else 1,
    with the days, rows and columns that differ. Nothing is changed.
    """
    from dataflows.datasets import checking

    folder = require_repository(repo)
    catalogue = _catalogue(folder)
    catalogue.manifest(name)
    with catalogue.workplace(name) as place:
        checked = checking.check(folder, catalogue, name, place, builder(place.lock))
    print_check(checked)


@dataset_app.command(COMMAND, hidden=True)
def rows(order: Annotated[Path, typer.Argument(exists=True)]) -> None:
    """Do what `build` or `check` has ordered: in a process that has loaded no definitions."""
    make_ordered(order)


def _catalogue(folder: Path) -> Catalogue:
    from contracts.settings import DataflowSettings
    from dataflows.datasets.catalogue import Catalogue

    return Catalogue(DataflowSettings.for_repo(folder).datasets_dir)
