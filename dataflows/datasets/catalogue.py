"""The folder of data sets: one folder for each, whole or absent, and never changed."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.durable_files import sync_folder, write_synced
from dataflows.datasets.errors import DatasetError
from dataflows.datasets.manifest import FILE, DatasetManifest, encode, read_manifest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Workplace:
    """Where a data set is made, for one process at a time.

    Attributes:
        folder: empty at first, and removed at the end.
        lock: descriptor of the file that is locked; who inherits it holds the place too.
    """

    folder: Path
    lock: int

    @property
    def rows(self) -> Path:
        """The folder that is to become the data set."""
        return self.folder / "rows"


class Catalogue:
    """All data sets."""

    def __init__(self, root: Path) -> None:
        """``root`` is ``HEADWATER_DATASETS_DIR``; it need not exist."""
        self.root = root

    def folder(self, name: str) -> Path:
        """Where the data set of that name lies, or would; raise DatasetError for a bad name."""
        if not _NAME.fullmatch(name):
            raise DatasetError(
                f"{name!r} is no name for a data set: take up to 100 letters, digits, dots, - and "
                "_, and begin with a letter or a digit"
            )
        return self.root / name

    def names(self) -> list[str]:
        """Names of all data sets, sorted."""
        return sorted(p.parent.name for p in self.root.glob(f"*/{FILE}") if _is_name(p.parent.name))

    def manifest(self, name: str) -> DatasetManifest:
        """The manifest of a data set; raise DatasetError."""
        return read_manifest(self.folder(name))

    def free_name(self, model: str) -> str:
        """The first of ``MODEL-1``, ``MODEL-2``, ... behind all that there are."""
        taken = [
            int(found[1])
            for path in self.root.glob(f"{model}-*")
            if (found := re.fullmatch(re.escape(model) + r"-([0-9]{1,9})", path.name))
        ]
        return f"{model}-{max(taken, default=0) + 1}"

    def keeping(self, models: Collection[str], known: Collection[str]) -> list[str]:
        """Names of data sets of these models, and of models that nobody knows any more."""
        found = []
        for name in self.names():
            try:
                model = self.manifest(name).model
            except DatasetError:
                model = ""  # of whom it is cannot be read, but its rows can
            if model in models or model not in known:
                found.append(name)
        return found

    def twins(self, manifest: DatasetManifest) -> list[str]:
        """Names of other data sets of the same model with the same rows."""
        found = []
        for name in self.names():
            if name == manifest.name:
                continue
            try:
                other = self.manifest(name)
            except DatasetError:
                continue  # `list` and `check` say so
            if (other.model, other.figures.digest) == (manifest.model, manifest.figures.digest):
                found.append(name)
        return found

    @contextmanager
    def workplace(self, name: str) -> Iterator[Workplace]:
        """A place to build or check a data set in; what a killed process left there is removed.

        Raises:
            DatasetError: another process is at it.
        """
        self.folder(name)
        self.root.mkdir(parents=True, exist_ok=True)
        folder = self.root / f".{name}.work"
        with (self.root / f".{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(
                    f"data set {name!r} is being built or checked by another process; wait for "
                    "its end, or take another --name"
                ) from None
            _remove(folder)
            folder.mkdir()
            try:
                yield Workplace(folder, lock.fileno())
            finally:
                _remove(folder)

    def check_free(self, name: str) -> None:
        """Raise DatasetError if there is a data set of that name: none is ever changed."""
        if self.folder(name).exists():
            raise DatasetError(
                f"there is a data set {name!r} already, and data sets never change; take another "
                "--name, or remove its folder first"
            )

    def publish(self, place: Workplace, manifest: DatasetManifest) -> None:
        """Give the rows in the workplace their manifest and their name, in one step."""
        self.check_free(manifest.name)
        write_synced(place.rows / FILE, encode(manifest))
        for folder in (*(path for path in place.rows.iterdir() if path.is_dir()), place.rows):
            sync_folder(folder)
        place.rows.rename(self.folder(manifest.name))
        sync_folder(self.root)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
