"""A small shop in a Git repository, with a log, whose data sets are built in this process."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contracts.settings import DataflowSettings
from dataflows.datasets import checking, making
from dataflows.datasets.building import build_rows
from dataflows.datasets.catalogue import Catalogue
from dataflows.datasets.checking import Checked
from dataflows.datasets.manifest import Bounds, DatasetManifest
from tests.flow import shop

MODEL = "late_order"
MIDNIGHT_US = shop.BEGIN_US + 2 * 3600 * shop.SECOND_US
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALL = Bounds()


@dataclass(frozen=True)
class World:
    """The repository, below the root of its Git repository."""

    folder: Path

    @property
    def log(self) -> Path:
        """The log of files."""
        return self.folder / "data" / "log"

    @property
    def settings(self) -> DataflowSettings:
        """Those that the command would have."""
        return DataflowSettings.for_repo(self.folder)

    @property
    def catalogue(self) -> Catalogue:
        """Its data sets."""
        return Catalogue(self.settings.datasets_dir)

    def git(self, *words: str) -> str:
        """Run Git in the folder."""
        who = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
        command = ["git", "-C", str(self.folder), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, definitions: str = shop.DEFINITIONS) -> str:
        """Commit these definitions; the commit."""
        (self.folder / "definitions.py").write_text(definitions)
        self.git("add", "definitions.py", "feature_store.yaml")
        self.git("commit", "--quiet", "--message", "definitions")
        return self.git("rev-parse", "HEAD")

    def build(
        self, name: str, bounds: Bounds = ALL, takes_changes: int = 0, model: str = MODEL
    ) -> DatasetManifest:
        """Build one of the model."""
        wish = making.Wish(model, name, bounds, bool(takes_changes), "somebody", AT)
        with self.catalogue.workplace(name) as place:
            return making.build(self.folder, self.catalogue, wish, place, build_rows)

    def build_like(self, name: str, other: DatasetManifest) -> DatasetManifest:
        """Build one of the same commit, range and bounds as another."""
        wish = making.Wish(MODEL, name, other.bounds, False, "somebody", AT)
        with self.catalogue.workplace(name) as place:
            return making.build_like(self.folder, self.catalogue, wish, place, build_rows, other)

    def check(self, name: str) -> Checked:
        """Check one."""
        with self.catalogue.workplace(name) as place:
            return checking.check(self.folder, self.catalogue, name, place, build_rows)


def make_world(root: Path, records: list[shop.Record]) -> World:
    """A Git repository in ``root`` with the Feast repository in a folder of it, committed."""
    world = World(shop.make_repository(root / "features"))
    shop.write_log(world.log, records)
    world.git("init", "--quiet", str(root))
    world.commit()
    return world
