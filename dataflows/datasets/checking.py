"""Makes a data set again from its commit and its range of the log, and says what differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataflows.datasets.catalogue import Catalogue, Workplace
from dataflows.datasets.differences import DayDifference, changed_columns, changed_days
from dataflows.datasets.errors import DatasetError
from dataflows.datasets.making import make_rows, versions
from dataflows.datasets.manifest import DatasetManifest
from dataflows.datasets.order import Builder, Made
from dataflows.datasets.rows import damaged_days

# Beyond so many days that differ, columns are not looked at: it is all of it.
_DAYS_LOOKED_AT_MAX = 50


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        manifest: of the data set.
        damaged: stored files (``TABLE/DAY``) that are not as they were written.
        differences: days that come out otherwise now.
        notes: what may be why, or may be good to know; a line each.
    """

    manifest: DatasetManifest
    damaged: tuple[str, ...]
    differences: tuple[DayDifference, ...]
    notes: tuple[str, ...]


def check(
    repository: Path, catalogue: Catalogue, name: str, place: Workplace, builder: Builder
) -> Checked:
    """Make a data set again and hold it against what was recorded; nothing is changed.

    Raises:
        DatasetError: there is no such data set, its commit or its range of the log is gone, or it
            was made of definitions that are in no commit and are others now.
        Exception: what ``builder`` raises.
    """
    manifest = catalogue.manifest(name)
    origin = manifest.origin
    made = make_rows(
        repository, place, builder, manifest.model, origin, manifest.bounds, manifest.log
    )
    if origin.has_changes and made.definitions != origin.definitions:
        raise DatasetError(
            f"data set {name!r} was made of definitions that are in no commit, and those of "
            f"{repository} are others now; put them back, or build it anew from a commit"
        )
    stored = catalogue.folder(name)
    return Checked(
        manifest,
        damaged_days(stored, manifest.figures),
        _differences(manifest, made, stored, place.rows),
        _notes(manifest, made),
    )


def check_stored(catalogue: Catalogue, name: str) -> DatasetManifest:
    """The manifest of a data set whose files are as they were written; else DatasetError."""
    manifest = catalogue.manifest(name)
    if damaged := damaged_days(catalogue.folder(name), manifest.figures):
        raise DatasetError(f"{damage(manifest, damaged)}; {rebuilding(manifest)}")
    return manifest


def damage(manifest: DatasetManifest, damaged: tuple[str, ...]) -> str:
    """What happened to the stored files, for people."""
    more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
    return (
        f"stored files of data set {manifest.name!r} are not as they were written: "
        f"{', '.join(damaged[:3])}{more}"
    )


def rebuilding(manifest: DatasetManifest) -> str:
    """How a data set whose files were damaged is made again."""
    return (
        f"`headwater dataset build {manifest.model} --like {manifest.name} --name NEW` makes it "
        "again from the log; then remove the damaged folder"
    )


def _differences(
    manifest: DatasetManifest, made: Made, stored: Path, rebuilt: Path
) -> tuple[DayDifference, ...]:
    found = []
    damaged = set(damaged_days(stored, manifest.figures))
    for number, (table, day, then, now) in enumerate(changed_days(manifest.figures, made.figures)):
        place = f"{table}/{day}"
        columns: dict[str, int] = {}
        if then and now and place not in damaged and number < _DAYS_LOOKED_AT_MAX:
            old, new = (folder / table / f"{day}.parquet" for folder in (stored, rebuilt))
            columns = changed_columns(old, new, made.spine_key)
        found.append(DayDifference(table, day, then, now, columns))
    return tuple(found)


def _notes(manifest: DatasetManifest, made: Made) -> tuple[str, ...]:
    notes = []
    if made.forgotten != manifest.forgotten:
        notes.append(
            "entities were forgotten since it was built, and do not come back: build another data "
            "set and remove the folder of this one, which still has them"
        )
    now = versions()
    for package, then in manifest.versions.items():
        if now.get(package, "unknown") != then:
            notes.append(f"made with {package} {then}, checked with {now.get(package, 'unknown')}")
    if made.definitions != manifest.origin.definitions:
        notes.append(
            "the same commit compiles to other definitions here: other versions, or environment "
            "variables that feature_store.yaml or definitions.py read"
        )
    return tuple(notes)
