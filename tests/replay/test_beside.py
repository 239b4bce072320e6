"""A replay beside a running dataflow: it takes over, and nothing is lost or written twice."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path

import pytest

from tests.flow import shop
from tests.integration.commands import Command, Commands, wait_for
from tests.replay.world import VISIT_SUMS, World, make_world, running
from tests.services import server

TRIES = 4


def test_it_takes_over_from_a_running_dataflow(
    tmp_path: Path, commands: Commands, records: list[shop.Record], whole: World
) -> None:
    """Records come all the while; the dataflow ends with a message, and all is as in one go."""
    world, half = _half_written(tmp_path, records)
    with running(world, commands) as dataflow:
        world.wait_until_read(dataflow)
        replaying = world.start(commands, "replay")
        with _writing(world, records[half : half + 400]):
            assert replaying.wait() == 0, replaying.output
        assert "a replay takes over from this dataflow" in dataflow.refuse()
    assert "took over from the running dataflow" in replaying.output
    world.write(records[half + 400 :])
    world.run()
    assert world.digest() == whole.digest()


def test_a_new_view_is_filled_beside_a_running_dataflow(
    tmp_path: Path, commands: Commands, records: list[shop.Record], whole_with_more: World
) -> None:
    """Only the new view is read for; with --live the replay goes on with all of them."""
    world, half = _half_written(tmp_path, records)
    with running(world, commands) as dataflow:
        world.wait_until_read(dataflow)
        world.define(shop.DEFINITIONS + VISIT_SUMS)
        replaying = world.start(commands, "replay", "--views", "visit_sums", "--live")
        with _writing(world, records[half : half + 300]):
            assert "a replay takes over" in dataflow.refuse()
    world.write(records[half + 300 :])
    world.wait_until_read(replaying)
    assert "replayed visit_sums: " in replaying.output
    assert replaying.stop() == 0, replaying.output
    world.run()
    assert world.digest() == whole_with_more.digest()


def test_processes_that_run_together_are_all_fenced(
    tmp_path: Path,
    commands: Commands,
    records: list[shop.Record],
    whole: World,
    free_ports: list[int],
) -> None:
    """Each process of a dataflow ends with the message; the replay does what they did."""
    world = make_world(tmp_path / "repository")
    world.write(records)
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports)
    together = [
        world.start(commands, "run", HEADWATER_ADDRESSES=addresses, HEADWATER_PROCESS=str(number))
        for number in range(2)
    ]
    world.wait_until_read(together[0])
    replaying = world.start(commands, "replay")
    for process in together:
        assert process.wait() == 1
        assert "a replay takes over from this dataflow" in process.output
    assert replaying.wait() == 0, replaying.output
    world.run()
    assert world.digest() == whole.digest()


def test_a_dataflow_that_does_not_end_is_left_alone(
    tmp_path: Path, commands: Commands, records: list[shop.Record]
) -> None:
    """One that stands still keeps its stores: the replay gives up, says so, and can be resumed."""
    world = make_world(tmp_path / "repository", gather_seconds=0.5)
    world.write(records[:600])
    with running(world, commands) as dataflow:
        world.wait_until_read(dataflow)
        dataflow.signal(signal.SIGSTOP)
        refused = world.start(commands, "replay").refuse()
        assert "did not end when it was asked to" in refused
        dataflow.signal(signal.SIGCONT)
        world.write(records[600:700])
        world.wait_until_read(dataflow)
        assert dataflow.stop() == 0, dataflow.output
    world.run()
    before = world.digest()
    assert world.replay().events < 200
    assert world.digest() == before


def test_killed_at_any_moment_it_can_be_taken_up(
    tmp_path: Path, commands: Commands, records: list[shop.Record], whole: World
) -> None:
    """SIGKILL of the replay leaves a world in which run and replay do the rest."""
    rng = random.Random(5)
    world = make_world(tmp_path / "repository", batch_bytes=2_000)
    part = len(records) // TRIES
    for number in range(TRIES):
        begin, end = number * part, len(records) if number == TRIES - 1 else (number + 1) * part
        with running(world, commands) as dataflow:
            world.write(records[begin:end])
            world.wait_until_read(dataflow)
            replaying = world.start(commands, "replay")
            _wait_for_moment(world, rng.choice(list(_MOMENTS)), replaying)
            replaying.kill()
            if dataflow.poll() is None:
                dataflow.stop()
    world.replay()
    world.run()
    assert world.digest() == whole.digest()


def test_one_replay_at_a_time(
    tmp_path: Path, commands: Commands, records: list[shop.Record]
) -> None:
    """A second one is refused while the first lives."""
    world = make_world(tmp_path / "repository")
    world.write(records[:300])
    first = world.start(commands, "replay", "--live")
    wait_for("its lock", lambda: (world.folder / "data" / "state.replay").exists(), first)
    first.signal(signal.SIGSTOP)
    try:
        assert "is under way" in world.start(commands, "replay").refuse()
    finally:
        first.signal(signal.SIGCONT)
    # Wherever that meets it: the replay ends with a word, the dataflow that it became without.
    assert first.stop() == int("the replay was stopped" in first.output), first.output


def _half_written(folder: Path, records: list[shop.Record]) -> tuple[World, int]:
    """A world with the first half of the records, and how many these are."""
    world, half = make_world(folder / "repository"), len(records) // 2
    world.write(records[:half])
    return world, half


def _wait_for_moment(world: World, moment: str, replaying: Command) -> None:
    marker = world.folder / "data" / _MOMENTS[moment]
    wait_for(moment, lambda: marker.exists() or replaying.poll() is not None)


_MOMENTS = {"begin": "state.replay/shards", "cut": "state.fence.json"}


class _writing:  # noqa: N801 - reads as a verb
    """Appends records one after another while the context lasts, and the rest at its end."""

    def __init__(self, world: World, records: list[shop.Record]) -> None:
        self._world, self._left = world, iter(records)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._world.write(list(self._left))

    def _write(self) -> None:
        for record in self._left:
            self._world.write([record])
            if self._stop.wait(0.005):
                return


@pytest.fixture
def free_ports() -> list[int]:
    """Two ports of this machine that nobody listens on."""
    return list(server.free_ports(2))
