"""Where a replay builds: beside what is live, under names that end in ``.replay``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from contracts.online_store import SqliteConfig
from dataflows.flow.errors import EngineError
from dataflows.flow.run_context import Places
from dataflows.replay.selection import Selection
from dataflows.stores.online_writer import GatheredFile

_SUFFIX = ".replay"


def fresh_places(live: Places) -> Places:
    """Where a replay builds what will take the place of ``live``: beside it."""
    # What goes to a server is gathered in a file first, so that nobody sees half of it.
    if isinstance(live.online, SqliteConfig):
        online = live.online.path
    else:
        online = live.state.with_name(live.state.name + ".online.db")
    return Places(
        state=sibling(live.state),
        online=GatheredFile(sibling(online)),
        offline={name: sibling(path) for name, path in live.offline.items()},
        examples=sibling(live.examples),
        models=sibling(live.models),
    )


def selected(places: Places, selection: Selection) -> Places:
    """The places without offline tables of views that are not selected."""
    offline = {name: path for name, path in places.offline.items() if name in selection.views}
    return Places(places.state, places.online, offline, places.examples, places.models)


def sibling(path: Path, suffix: str = _SUFFIX) -> Path:
    """The path that stands for it while a replay is under way; on its disk, as renaming needs."""
    real = path.resolve()
    return real.with_name(real.name + suffix)


def check_exchangeable(folders: Iterable[Path]) -> None:
    """Raise EngineError if one of the folders could not be renamed, and so not be replaced."""
    for folder in folders:
        if folder.resolve().is_mount():
            raise EngineError(
                f"{folder} is a mount point, so that no other folder can take its place: mount the "
                "folder above it instead, or choose a folder in it"
            )


def gathered_values(fresh: Places) -> Path:
    """The SQLite file with the online values that a replay has built."""
    assert isinstance(fresh.online, GatheredFile), "a replay builds a file"
    return fresh.online.path
