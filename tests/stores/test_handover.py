"""A handover is done as a whole, whenever whoever does it is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflows.stores.handover import (
    Handover,
    HandoverError,
    Values,
    finish_handover,
    hand_over,
    journal_path,
)


class _KilledError(Exception):
    """Stands for the end of the process."""


class World:
    """Folders, new and live, and an online store that is a dict."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.online = {"user": "old"}
        for name in ("tables", "models"):
            for side in ("new", "live"):
                (folder / f"{name}.{side}").mkdir(parents=True)
                (folder / f"{name}.{side}" / "file").write_text(side)
        (folder / "gathered.db").write_text("new")
        (folder / "built").mkdir()
        (folder / "built" / "file").write_text("new")
        (folder / "terms.json").write_text("new")

    @property
    def handover(self) -> Handover:
        """All of it."""
        tables, models = (
            (str(self.folder / f"{name}.new"), str(self.folder / f"{name}.live"))
            for name in ("tables", "models")
        )
        values = Values(str(self.folder / "gathered.db"), ("v",), (), "replace", "mark")
        leftovers = str(self.folder / "built"), str(self.folder / "terms.json")
        return Handover((tables,), values, (models,), leftovers)

    def fill(self, values: Values) -> None:
        """Make the store hold what was gathered."""
        assert values.gathered is not None
        self.online["user"] = Path(values.gathered).read_text()

    @property
    def state(self) -> Path:
        """The state folder, beside which the journal lies."""
        return self.folder / "state"

    @property
    def contents(self) -> list[str]:
        """What readers see."""
        files = [self.folder / f"{name}.live" / "file" for name in ("tables", "models")]
        return [*(file.read_text() for file in files if file.exists()), self.online["user"]]

    @property
    def left(self) -> set[str]:
        """Names of all that lies there."""
        return {path.name for path in self.folder.iterdir()}


def test_all_is_exchanged(tmp_path: Path) -> None:
    """Folders and values are new, and nothing else is left."""
    world = World(tmp_path)
    hand_over(world.handover, world.state, world.fill)
    assert world.contents == ["new", "new", "new"]
    assert world.left == {"tables.live", "models.live"}
    assert not finish_handover(world.state, world.fill)


@pytest.mark.parametrize("step", range(12))
def test_killed_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Whoever comes next does the rest; before the journal stands nothing has changed."""
    world, left = World(tmp_path), iter(range(step))
    real = {name: getattr(Path, name) for name in ("rename", "unlink", "replace", "mkdir")}

    def dying(name: str) -> object:
        def call(*given: object, **more: object) -> object:
            if next(left, None) is None:
                raise _KilledError()
            return real[name](*given, **more)

        return call

    with monkeypatch.context() as patched:
        for name in real:
            patched.setattr(Path, name, dying(name))
        try:
            hand_over(world.handover, world.state, world.fill)
        except _KilledError:
            pass
        else:
            assert step >= 8, "the steps were not met"
    if journal_path(world.state).exists():
        assert finish_handover(world.state, world.fill)
    elif step < 3:
        assert world.contents == ["live", "live", "old"]
        return
    assert world.contents == ["new", "new", "new"]
    assert world.left == {"tables.live", "models.live"}


def test_a_store_that_is_gone_is_filled_later(tmp_path: Path) -> None:
    """The journal and the values stay until the store takes them; models come after them."""
    world = World(tmp_path)

    def gone(values: Values) -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        hand_over(world.handover, world.state, gone)
    assert world.contents == ["new", "live", "old"]
    assert finish_handover(world.state, world.fill)
    assert world.contents == ["new", "new", "new"]


def test_values_that_only_go(tmp_path: Path) -> None:
    """Without a file the store is asked each time, until the journal is gone."""
    world = World(tmp_path)
    asked: list[Values] = []
    values = Values(None, (), (), "replace", "mark")
    hand_over(Handover((), values), world.state, asked.append)
    assert asked == [values]
    assert not journal_path(world.state).exists()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    """Nobody guesses what it said; a replay of everything makes up for it."""
    world = World(tmp_path)
    journal_path(world.state).write_text('{"folders": ')
    with pytest.raises(HandoverError, match="remove it, then rebuild everything"):
        finish_handover(world.state, world.fill)
