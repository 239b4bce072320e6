"""What people decide about models until new ones have taken their place is decided."""

from __future__ import annotations

import fcntl
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.durable_files import exclusive
from contracts.manifest import sha256_hex
from contracts.model_repository import ModelRepository
from dataflows.stores import handover
from dataflows.stores.handover import Handover, Values, finish_handover, hand_over
from dataflows.stores.keeping import KeptModel, keep
from dataflows.versions import ACTOR
from tests.contracts.test_model_repository import manifest

PATIENCE_SECONDS = 20.0


class World:
    """A live repository and the one that a replay has built, with the same two versions."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.live, self.fresh = ModelRepository(folder / "live"), ModelRepository(folder / "fresh")
        for repository in (self.live, self.fresh):
            for number in ("1", "2"):
                publish(repository, number, ACTOR)
                repository.set_channel("fraud", "champion", number, "learned", ACTOR, int(number))
        self.live.set_challenger("fraud", "1", 0.5, None, "try", "ann", 3)
        one = KeptModel(
            "fraud", manifest("1").fingerprint, str(self.live.root), str(self.fresh.root)
        )
        moves = ((str(self.fresh.root), str(self.live.root)),)
        self.handover = Handover((), Values(None, (), (), "add", "m"), moves, models=(one,))
        keep(self.handover.models)


def publish(repository: ModelRepository, version: str, maker: str) -> None:
    """Add a version."""
    made = replace(
        manifest(), version=version, created_by=maker, sha256=sha256_hex(version.encode())
    )
    repository.publish(made, version.encode())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """All of it, when everything is ready to be handed over."""
    return World(tmp_path)


def test_decisions_while_values_are_put_in_place(world: World) -> None:
    """A promotion, a version made by hand and a challenger that is no more are carried over."""

    def deciding(values: Values) -> None:
        publish(world.live, "b7", "ann")
        world.live.promote("fraud", "b7", "better", "ann", 4)
        world.live.set_channel("fraud", "challenger", None, "enough", "ann", 5)

    hand_over(world.handover, world.state, deciding)
    assert not world.fresh.root.exists()
    channels = world.live.channels("fraud")
    assert (channels.champion, channels.challenger) == ("b7", None)
    assert world.live.load("fraud", "b7")[1] == b"b7"
    said = [(entry.action, entry.version, entry.actor) for entry in world.live.audit("fraud")]
    assert ("promote", "b7", "ann") in said


def test_decisions_while_nobody_hands_over(world: World) -> None:
    """Nor is lost what is decided between the end of a killed replay and the next command."""

    def dying(values: Values) -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        hand_over(world.handover, world.state, dying)
    world.live.promote("fraud", "1", "worse", "ann", 4)
    assert finish_handover(world.state, lambda values: None)
    assert world.live.channels("fraud").champion == "1"


def test_nobody_decides_while_models_are_exchanged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would change a channel then has to wait."""
    exchange, asked = handover._exchange, []

    def exchanging(new: Path, live: Path) -> None:
        with (world.live.root / "fraud" / ".lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                asked.append(live)
        exchange(new, live)

    monkeypatch.setattr(handover, "_exchange", exchanging)
    hand_over(world.handover, world.state, lambda values: None)
    assert asked == [world.live.root]


def test_a_lock_is_that_of_the_file_which_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for a lock in a folder that was replaced holds the one that others ask for."""
    file, waiting, found = tmp_path / ".lock", threading.Event(), []
    lock = fcntl.flock

    def hold() -> None:
        with exclusive(file), file.open("ab") as other:
            try:
                lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append("held")
            else:
                found.append("free")

    thread = threading.Thread(target=hold)

    def locking(handle: int, operation: int) -> None:
        waiting.set()
        lock(handle, operation)

    with exclusive(file):
        monkeypatch.setattr(fcntl, "flock", locking)
        thread.start()
        assert waiting.wait(PATIENCE_SECONDS)
        (tmp_path / "new").touch()
        (tmp_path / "new").replace(file)
    thread.join(PATIENCE_SECONDS)
    assert found == ["held"]
