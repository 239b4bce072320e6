"""A dataflow that waits before it has begun to read lets a replay take over as any other does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataflows.flow.fence import fenced, rebuilding
from dataflows.flow.progress import read_progress
from dataflows.flow.state_lock import is_seat_held
from dataflows.stores.handover import Handover, Values, journal_path
from tests.flow import shop
from tests.integration.commands import Command, Commands, wait_for
from tests.replay.world import World, make_world
from tests.services.server import free_ports

# Far less than the dataflow would wait: HEADWATER_OUTAGE_SECONDS is ten minutes.
PATIENCE_SECONDS = 30.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One without records."""
    return make_world(tmp_path / "repository")


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody answers."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_kafka_is_away(world: World, commands: Commands, nowhere: str) -> None:
    """It has asked brokers for nothing yet, so it has nothing to save."""
    _is_fenced(world, commands, nowhere, HEADWATER_LOG_URL=f"kafka://{nowhere}")


def test_redis_is_away(world: World, commands: Commands, nowhere: str) -> None:
    """It would otherwise write an old state's values once Redis is back."""
    _put_on_redis(world, nowhere)
    _is_fenced(world, commands, nowhere)


def test_redis_is_away_and_a_replay_half_put_in_place(
    world: World, commands: Commands, nowhere: str
) -> None:
    """What was begun stays for the replay to finish: the journal is still there."""
    _put_on_redis(world, nowhere)
    journal = journal_path(world.settings.state_dir)
    journal.parent.mkdir(parents=True, exist_ok=True)
    written = msgspec.json.encode(Handover((), Values(None, (), (), "replace", "mark")))
    journal.write_bytes(written)
    _is_fenced(world, commands, nowhere)
    assert journal.read_bytes() == written


@pytest.mark.parametrize("number", [0, 1])
def test_another_process_has_not_come(world: World, commands: Commands, number: int) -> None:
    """One of two, whichever it is, waits for the other; both look at the fence."""
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
    seat = {"HEADWATER_ADDRESSES": addresses, "HEADWATER_PROCESS": str(number)}
    state = world.settings.state_dir
    dataflow = world.start(commands, "run", **seat)
    wait_for("its seat", lambda: is_seat_held(state, number), dataflow)
    _take_over(world, dataflow)


def _put_on_redis(world: World, address: str) -> None:
    store = shop.STORE.replace(
        "{type: sqlite, path: data/online.db}",
        f'{{type: redis, connection_string: "{address}"}}',
    )
    (world.folder / "feature_store.yaml").write_text(store)


def _is_fenced(world: World, commands: Commands, waits_for: str, **more: Any) -> None:
    """A dataflow that says that it waits for an address ends when it is fenced."""
    dataflow = world.start(commands, "run", **more)
    state = world.settings.state_dir

    def is_waiting() -> bool:
        try:
            said = read_progress(state)
        except FileNotFoundError:
            return False
        return any(waits_for in one.waiting_for for one in said)

    wait_for("the waiting", is_waiting, dataflow)
    _take_over(world, dataflow)


def _take_over(world: World, dataflow: Command) -> None:
    state = world.settings.state_dir
    try:
        with rebuilding(state), fenced(state, "a replay", PATIENCE_SECONDS):
            assert dataflow.wait() == 1, dataflow.output
            last = dataflow.output.splitlines()[-1]
            assert last.startswith("headwater: a replay takes over from this dataflow"), last
    finally:
        dataflow.kill()
