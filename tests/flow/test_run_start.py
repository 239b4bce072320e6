"""What a run does before it reads: the lock, its own progress, what a replay has left to do."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from dataflows.definitions.repository import Repository
from dataflows.flow.errors import EngineError
from dataflows.flow.progress import ProgressFile, begin_progress, read_progress
from dataflows.flow.run_context import PartitionProgress, RunContext
from dataflows.flow.state_lock import exclusive_state
from tests.flow import shop


def test_one_who_only_looks_at_the_lock_is_waited_for(tmp_path: Path) -> None:
    """`headwater status` holds the lock for an instant, at which a run may begin."""
    state = tmp_path / "state"
    held, look_ends = threading.Event(), threading.Event()

    def look() -> None:
        with state.with_name("state.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            held.set()
            look_ends.wait(0.1)

    looker = threading.Thread(target=look)
    looker.start()
    assert held.wait(10)
    with exclusive_state(state):
        pass
    looker.join(10)


def test_one_who_keeps_the_lock_is_not(tmp_path: Path) -> None:
    """Another dataflow on the same state is refused, with advice."""
    state = tmp_path / "state"
    with (
        exclusive_state(state),
        pytest.raises(EngineError, match="HEADWATER_STATE_DIR"),
        exclusive_state(state),
    ):
        pass


def test_a_run_says_at_once_that_it_is_there(repository: Repository, tmp_path: Path) -> None:
    """What the run before has said is gone before this one has read anything."""
    settings = shop.settings(repository.directory, tmp_path / "log", tmp_path)
    former = RunContext(settings, shop.places(tmp_path), None, threading.Event())
    former.positions["orders/0"] = PartitionProgress(5, 7, is_idle=True)
    former.tally.add(events=9)
    for worker in range(2):
        ProgressFile(former.places.state, worker, former).write(4, 7)
    said = read_progress(former.places.state)[1]
    assert (said.events, list(said.partitions)) == (9, ["orders/0"])
    context = RunContext(settings, shop.places(tmp_path), None, threading.Event())
    context.waiting["log"] = "Kafka"
    tell = begin_progress(context)
    (said,) = read_progress(context.places.state)
    assert (said.pid, said.events, said.partitions) == (os.getpid(), 0, {})
    assert said.waiting_for == "Kafka"
    assert said.seconds == 0
    context.waiting.pop("log")
    tell()
    (said,) = read_progress(context.places.state)
    assert said.waiting_for == ""
