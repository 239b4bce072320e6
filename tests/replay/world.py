"""A shop on a log of files, whose dataflow and replays are processes or run in this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import Summary, default_places, run_flow, run_locked
from dataflows.flow.metrics import current_progress
from dataflows.flow.run_context import Places
from dataflows.flow.state_lock import exclusive_state
from dataflows.flow.target import cut_at_end
from dataflows.replay.contents import Digest, digest
from dataflows.replay.options import ReplayOptions
from dataflows.replay.replay import Replayed, replay
from tests.flow import shop
from tests.integration.commands import Command, Commands, wait_for

# A view that no model reads, of another topic than the model's spine.
VISIT_SUMS = """
visit_sums = view(
    "visit_sums", [user], VISITS, {"user": String},
    [Aggregation(column="pages", function="sum", name="pages_10m",
                 time_window=timedelta(minutes=10), slide_interval=timedelta(minutes=5)),
     Aggregation(column="seconds", function="max", name="longest_10m",
                 time_window=timedelta(minutes=10), slide_interval=timedelta(minutes=5))],
    {"pages_10m": Int64, "longest_10m": Float64})
"""


# What of a repository is compiled.
_FILES = ("definitions.py", "feature_store.yaml")


@cache
def _compiled(folder: Path, *contents: bytes) -> Repository:
    """Made once of the same files with the same contents."""
    assert len(contents) == len(_FILES)
    return load_repository(folder)


@dataclass(frozen=True)
class World:
    """A repository, its log, and everything that is made of it."""

    folder: Path
    given: dict[str, Any]

    @property
    def log(self) -> Path:
        """The folder of the log."""
        return self.folder / "data" / "log"

    @cached_property
    def settings(self) -> DataflowSettings:
        """Settings of everything that runs; made once, since tests look at them in loops."""
        url = self.log.as_uri()
        chosen = {"shards": 3, "epoch_seconds": 0.1, "offline_publish_seconds": 0.0, **self.given}
        return DataflowSettings.for_repo(self.folder, log_url=url, **chosen)

    @property
    def repository(self) -> Repository:
        """The definitions as they are now, compiled."""
        return _compiled(self.folder, *((self.folder / name).read_bytes() for name in _FILES))

    @property
    def places(self) -> Places:
        """Where everything lies."""
        return default_places(self.repository, self.settings)

    def define(self, definitions: str) -> None:
        """Change the definitions."""
        shop.make_repository(self.folder, definitions)

    def write(self, records: list[shop.Record]) -> None:
        """Append to the log."""
        shop.write_log(self.log, records)

    def run(self) -> Summary:
        """Run to the end of the log."""
        return run_flow(self.repository, self.settings, self.places, until_end=True)

    def run_and_stop(self) -> None:
        """Run to the end of the log and stop there as at a signal, for the flow to go on."""
        with exclusive_state(self.places.state):
            run_locked(self.repository, self.settings, self.places, cut_at_end)

    def replay(self, **options: Any) -> Replayed:
        """Replay in this process."""
        return replay(self.repository, self.settings, ReplayOptions(**options))

    def digest(self) -> Digest:
        """What is there."""
        return digest(self.repository, self.places)

    def start(self, commands: Commands, *arguments: str, **more: str) -> Command:
        """``headwater ARGUMENTS`` as a process."""
        chosen = self.settings.model_dump()
        names = ("log_url", "shards", "epoch_seconds", "gather_seconds", "offline_publish_seconds")
        environment = {f"HEADWATER_{name.upper()}": str(chosen[name]) for name in names}
        return commands.start({**environment, **more}, *arguments, "--repo", str(self.folder))

    def wait_until_read(self, command: Command, seconds: float = 60.0) -> None:
        """Until the dataflow has read all that the log holds now."""
        files = {f"{path.parent.name}/{path.stem}": path for path in self.log.rglob("*.ndjson")}

        def is_read() -> bool:
            offsets = self._offsets()
            return bool(offsets) and all(
                offset == files[name].stat().st_size for name, offset in offsets.items()
            )

        wait_for("all is read", is_read, command, seconds)

    def _offsets(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for said in current_progress(self.settings.state_dir):
            found |= {name: one.offset for name, one in said.partitions.items()}
        return found


def make_world(folder: Path, definitions: str = shop.DEFINITIONS, **given: Any) -> World:
    """A repository without records."""
    world = World(shop.make_repository(folder, definitions), given)
    world.write([])
    return world


def made_in_one_go(
    folder: Path, records: list[shop.Record], definitions: str = shop.DEFINITIONS
) -> World:
    """What all of the records come to with these definitions from the first one on."""
    world = make_world(folder, definitions)
    world.write(records)
    world.run()
    return world


@contextmanager
def running(world: World, commands: Commands, **more: str) -> Iterator[Command]:
    """A dataflow that runs; killed at the end of the context if it still does."""
    command = world.start(commands, "run", **more)
    try:
        yield command
    finally:
        if command.poll() is None:
            command.kill()


def files_below(folder: Path) -> dict[str, bytes]:
    """Relative path -> content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
