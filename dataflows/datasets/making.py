"""Builds a data set under a name of its own."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dataflows.datasets.catalogue import Catalogue, Workplace
from dataflows.datasets.commit import check_out, commit_of
from dataflows.datasets.errors import DatasetError
from dataflows.datasets.manifest import Bounds, DatasetManifest, LogRange, Origin
from dataflows.datasets.order import Builder, Made, Order

_PACKAGES = ("headwater", "feast", "river", "numpy", "bytewax")


@dataclass(frozen=True)
class Wish:
    """What data set is wanted.

    Attributes:
        model: whose examples.
        name: of the data set.
        bounds: when predictions were made.
        takes_changes: whether definitions may be in no commit; then nobody else can make them.
        actor: who builds it.
        at: the moment, for people.
    """

    model: str
    name: str
    bounds: Bounds
    takes_changes: bool
    actor: str
    at: datetime


def build(
    repository: Path, catalogue: Catalogue, wish: Wish, place: Workplace, builder: Builder
) -> DatasetManifest:
    """Build a data set of what the repository has checked out, and of all the log holds now.

    Args:
        repository: folder of the Feast repository.
        catalogue: that gets it.
        wish: what is wanted.
        place: the workplace of its name.
        builder: makes the rows, in a process that has loaded no other definitions.

    Raises:
        DatasetError: the name is taken, or definitions are in no commit and must be.
        Exception: what ``builder`` raises.
    """
    catalogue.check_free(wish.name)
    found = commit_of(repository)
    if not found.is_clean and not wish.takes_changes:
        raise DatasetError(
            f"{repository} {found.shown}, so nobody could make the data set again; commit first, "
            "or say --allow-dirty"
        )
    # The commit lacks what Git ignores: who takes changes takes that too.
    has_changes = not found.is_clean or (wish.takes_changes and bool(found.ignored))
    origin = Origin(found.sha, found.folder, has_changes=has_changes)
    return _made(repository, catalogue, wish, place, builder, origin, None)


def build_like(
    repository: Path,
    catalogue: Catalogue,
    wish: Wish,
    place: Workplace,
    builder: Builder,
    other: DatasetManifest,
) -> DatasetManifest:
    """Build a data set of the commit and the range of the log that another one is made of.

    As ``build``; the bounds are those of ``wish``.
    """
    catalogue.check_free(wish.name)
    return _made(repository, catalogue, wish, place, builder, other.origin, other.log)


def make_rows(
    repository: Path,
    place: Workplace,
    builder: Builder,
    model: str,
    origin: Origin,
    bounds: Bounds,
    log: LogRange | None,
) -> Made:
    """The rows of a model by the definitions of a commit, in the workplace.

    Of definitions with changes those that the repository has now are taken.

    Raises:
        DatasetError: the commit is not there.
        Exception: what ``builder`` raises.
    """
    definitions = repository
    if not origin.has_changes:
        # Not the folder as it is: what the commit lacks (a module that Git ignores) would be
        # missed by whoever makes the data set again.
        tree = place.folder / "tree"
        check_out(repository, origin.commit, tree)
        definitions = tree / origin.folder
    work = place.folder / "work"
    work.mkdir()
    return builder(
        Order(
            definitions=str(definitions),
            repository=str(repository),
            model=model,
            bounds=bounds,
            log=log,
            work=str(work),
            rows=str(place.rows),
        )
    )


def versions() -> dict[str, str]:
    """Versions of what rows are computed with."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _made(
    repository: Path,
    catalogue: Catalogue,
    wish: Wish,
    place: Workplace,
    builder: Builder,
    origin: Origin,
    log: LogRange | None,
) -> DatasetManifest:
    made = make_rows(repository, place, builder, wish.model, origin, wish.bounds, log)
    if origin.has_changes and origin.definitions not in ("", made.definitions):
        raise DatasetError(
            "the data set was made of definitions that are in no commit, and those of "
            f"{repository} are others now; put them back"
        )
    manifest = DatasetManifest(
        name=wish.name,
        model=wish.model,
        origin=Origin(
            origin.commit,
            origin.folder,
            origin.has_changes,
            definitions=made.definitions,
            fingerprint=made.fingerprint,
            label=made.label,
        ),
        log=made.log,
        bounds=wish.bounds,
        figures=made.figures,
        created=wish.at.astimezone(UTC).isoformat(timespec="seconds"),
        created_by=wish.actor,
        versions=versions(),
        forgotten=made.forgotten,
    )
    catalogue.publish(place, manifest)
    return manifest
