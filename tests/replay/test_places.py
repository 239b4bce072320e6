"""Folders that go by other names, or that nothing can take the place of."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.settings import DataflowSettings
from dataflows.flow.errors import EngineError
from dataflows.replay.places import check_exchangeable
from tests.flow import shop
from tests.replay.world import World, make_world


def test_folders_behind_links_stay_where_they_are(
    tmp_path: Path, records: list[shop.Record]
) -> None:
    """The link stays, and the folder behind it is the one that is exchanged, again and again."""
    world = make_world(tmp_path / "repository")
    world.write(records[:300])
    world.run()
    data, disk = world.folder / "data", tmp_path / "disk"
    disk.mkdir()
    names = ("state", "examples", "models", "offline/user_orders")
    for name in names:
        (data / name).rename(disk / Path(name).name)
        (data / name).symlink_to(disk / Path(name).name)
    before = world.digest()
    for _ in range(2):
        world.replay()
    assert all((data / name).is_symlink() for name in names)
    assert not list(disk.glob("*.*replay*")) + list(disk.glob("*.old"))
    world.run()
    assert world.digest() == before


def test_a_state_folder_has_one_name(tmp_path: Path) -> None:
    """Its lock lies beside it: who names it otherwise must meet the same lock."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    settings = [
        DataflowSettings.for_repo(tmp_path, state_dir=tmp_path / name) for name in ("link", "disk")
    ]
    assert settings[0].state_dir == settings[1].state_dir == tmp_path / "disk"


def test_a_mount_point_is_refused(tmp_path: Path) -> None:
    """Nothing is built for a folder that could not be renamed in the end."""
    check_exchangeable([tmp_path, tmp_path / "none"])
    with pytest.raises(EngineError, match="mount the folder above it"):
        check_exchangeable([tmp_path, Path("/proc")])


def test_a_replay_asks_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[shop.Record]
) -> None:
    """Before it reads anything; results that are not asked for do not matter."""
    world: World = make_world(tmp_path / "repository")
    world.write(records[:200])
    world.run()
    models = world.places.models
    is_mount = Path.is_mount
    monkeypatch.setattr(Path, "is_mount", lambda path: path == models or is_mount(path))
    with pytest.raises(EngineError, match="models is a mount point"):
        world.replay()
    assert world.replay(results=("offline",)).events
