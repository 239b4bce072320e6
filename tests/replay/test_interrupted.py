"""A replay that is killed while it is put in place: whoever comes next does the rest, all of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dataflows.erasure.tombstones import Tombstone, no_tombstones, write_tombstones
from dataflows.flow.errors import EngineError
from dataflows.flow.fence import fenced, rebuilding
from dataflows.replay.job import drop
from tests.flow import shop
from tests.integration.commands import Commands
from tests.replay.world import VISIT_SUMS, World, made_in_one_go, make_world

CHANGED = shop.DEFINITIONS.replace('over("sum", 20, 5', 'over("sum", 30, 5')


class _KilledError(BaseException):
    """Stands for the end of the process."""


def test_nothing_is_built_on_what_a_killed_replay_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[shop.Record]
) -> None:
    """Its values are in place, so what is left is not enough to go on from."""
    world = make_world(tmp_path / "repository")
    world.write(records[:600])
    world.run_and_stop()
    world.define(shop.DEFINITIONS + VISIT_SUMS)
    _kill_before_the_journal_goes(world, monkeypatch, views=("visit_sums",))
    world.write(records[600:900])
    world.run_and_stop()
    assert world.replay(results=("online",)).events > 600
    assert world.replay(views=("visit_sums",)).events > 600
    world.run()
    whole = made_in_one_go(tmp_path / "whole", records[:900], shop.DEFINITIONS + VISIT_SUMS)
    assert world.digest() == whole.digest()
    left = {path.name for path in (world.folder / "data").iterdir()}
    assert not {name for name in left if ".replay" in name or ".old" in name}, left


def test_results_are_never_newer_than_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[shop.Record]
) -> None:
    """A dataflow that was killed stands before what a pass has read: it has to run on first."""
    world = make_world(tmp_path / "repository")
    world.write(records[:600])
    world.run_and_stop()
    shutil.copytree(world.places.state, tmp_path / "state")
    world.write(records[600:700])
    world.run_and_stop()
    _kill_before_the_handover(world, monkeypatch, results=("online",))
    shutil.rmtree(world.places.state)
    shutil.copytree(tmp_path / "state", world.places.state)
    with pytest.raises(EngineError, match="start `headwater run` until it has passed"):
        world.replay(results=("online",))
    world.run_and_stop()
    world.replay(results=("online",))
    world.run()
    before = world.digest()
    world.replay()
    assert world.digest() == before


def test_what_is_being_put_in_place_is_not_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: Commands, records: list[shop.Record]
) -> None:
    """Half of it would be new, half old: `--drop` does the rest instead, and says so."""
    world = make_world(tmp_path / "repository")
    world.write(records[:600])
    world.run()
    world.define(CHANGED)
    _kill_before_the_values_change(world, monkeypatch)
    dropping = world.start(commands, "replay", "--drop")
    assert dropping.wait() == 0, dropping.output
    assert "too late" in dropping.output
    assert world.run().tally.events == 0
    after = world.digest()
    world.replay()
    assert world.digest() == after


def test_what_cannot_be_gone_on_with_is_to_be_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[shop.Record]
) -> None:
    """Of a dataflow's state one would say: replay. Of a replay's that would lead nowhere."""
    world = make_world(tmp_path / "repository")
    world.write(records[:300])
    world.run()
    _kill_before_the_handover(world, monkeypatch)
    other = World(world.folder, {"shards": 4})
    with pytest.raises(EngineError, match=r"HEADWATER_SHARDS changed.*`headwater replay --drop`"):
        other.replay()
    drop(other.places)
    other.replay()
    assert other.run().tally.events == 0


def test_what_was_learned_before_an_erasure_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[shop.Record]
) -> None:
    """Its models have learned from who was forgotten since, and a replay is to learn anew."""
    world = make_world(tmp_path / "repository")
    world.write(records[:300])
    world.run()
    _kill_before_the_handover(world, monkeypatch)
    forgotten = no_tombstones().added([_tombstone()])
    write_tombstones(world.settings.state_dir, forgotten)
    with pytest.raises(EngineError, match="from before somebody was forgotten"):
        world.replay()


def _tombstone() -> Tombstone:
    known = no_tombstones()
    return Tombstone(
        number=0,
        join_keys=("user",),
        entity=known.digest(b"nobody"),
        log="file",
        topics={},
        ends={},
        spine_keys={},
        at="2026-01-01T00:00:00+00:00",
        by="test",
    )


def test_a_run_meanwhile_is_told_of_the_replay(
    tmp_path: Path, commands: Commands, records: list[shop.Record]
) -> None:
    """And not of another dataflow, which nobody would find."""
    world = make_world(tmp_path / "repository")
    world.write(records[:100])
    state = world.settings.state_dir
    with rebuilding(state), fenced(state, "a replay", 5.0):
        assert "a replay takes over" in world.start(commands, "run").refuse()


def _die(*_: object, **__: object) -> None:
    raise _KilledError()


def _kill_before_the_handover(
    world: World, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("dataflows.replay.replay.handover_of", _die)
        with pytest.raises(_KilledError):
            world.replay(**options)


def _kill_before_the_journal_goes(
    world: World, monkeypatch: pytest.MonkeyPatch, views: tuple[str, ...]
) -> None:
    unlink = Path.unlink

    def dying(path: Path, *, missing_ok: bool = False) -> None:
        if path.name.endswith(".handover.json"):
            raise _KilledError()
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dying)
        with pytest.raises(_KilledError):
            world.replay(views=views)


def _kill_before_the_values_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("dataflows.stores.refill.replace_values", _die)
        with pytest.raises(_KilledError):
            world.replay()
