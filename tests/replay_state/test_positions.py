"""Where a stopped state folder stands, as the next run on it sees it."""

from __future__ import annotations

import pickle
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax._bytewax import cluster_main
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink

from dataflows.flow.errors import EngineError
from dataflows.flow.recovery import Snapshot, open_recovery, write_recovery
from dataflows.replay_state.positions import read_positions
from dataflows.sources.partition import Position

PLACES = {"a/0": Position(5, 17), "a/1": Position(0, -(2**62)), "b/0": Position(9, 3)}


class _Once(StatefulSourcePartition[int, Position]):
    """Gives nothing, and stands where it was told to."""

    def __init__(self, position: Position) -> None:
        self._position = position

    def next_batch(self) -> list[int]:
        """Nothing."""
        raise StopIteration()

    def snapshot(self) -> Position:
        """Where it stands."""
        return self._position


class _Log(FixedPartitionedSource[int, Position]):
    """Partitions that note where they were resumed."""

    def __init__(self, given: dict[str, Position]) -> None:
        self._given = given
        self.resumed: dict[str, Position | None] = {}

    def list_parts(self) -> list[str]:
        """The partitions' names."""
        return list(self._given)

    def build_part(self, step_id: str, for_part: str, resume_state: Position | None) -> _Once:
        """One of them."""
        self.resumed[for_part] = resume_state
        return _Once(self._given[for_part])


def _run(state: Path, given: dict[str, Position]) -> dict[str, Position | None]:
    """One execution of Bytewax, which ends at the given positions; where it began."""
    open_recovery(state / "recovery")
    source = _Log(given)
    flow = Dataflow("headwater")
    op.output("out", op.input("log", flow, source), TestingSink([]))
    cluster_main(flow, [], 0, recovery_config=RecoveryConfig(state / "recovery"))
    return source.resumed


def _ask(state: Path, query: str, *given: object) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(state / "recovery" / "part-0.sqlite3")) as store, store:
        return store.execute(query, given).fetchall()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder that nothing ran on yet."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def test_positions_are_those_of_the_last_execution(state: Path) -> None:
    """What the newest execution ended with counts, not what one before did."""
    _run(state, {**PLACES, "a/0": Position(2, 1)})
    assert read_positions(state)["a/0"] == Position(2, 1)
    _run(state, PLACES)
    assert read_positions(state) == PLACES
    assert _run(state, PLACES) == PLACES


def test_positions_never_committed_do_not_count(state: Path) -> None:
    """A killed run leaves snapshots of an epoch that was not over; the next one begins before."""
    _run(state, PLACES)
    ((epoch,),) = _ask(state, "SELECT MAX(worker_frontier) FROM fronts")
    late = pickle.dumps(Position(99, 99))
    _ask(state, "INSERT INTO snaps VALUES ('', 'headwater.log', 'a/0', ?, ?)", epoch, late)
    assert read_positions(state) == PLACES
    assert _run(state, PLACES) == PLACES
    _ask(state, "UPDATE snaps SET ser_change = ? WHERE state_key = 'a/0'", late)
    assert read_positions(state)["a/0"] == Position(99, 99)


def test_reading_positions_changes_nothing(state: Path) -> None:
    """A folder whose positions were read holds the same rows as before."""
    _run(state, PLACES)
    before = _ask(state, "SELECT * FROM snaps ORDER BY 2, 3, 4")
    for _ in range(2):
        read_positions(state)
    assert _ask(state, "SELECT * FROM snaps ORDER BY 2, 3, 4") == before


def test_a_folder_without_epochs_has_no_positions(tmp_path: Path, state: Path) -> None:
    """One that is not there, one that is empty, and one that was made ready only: none."""
    assert read_positions(tmp_path / "nowhere") == {}
    assert read_positions(state) == {}
    open_recovery(state / "recovery")
    assert read_positions(state) == {}


@pytest.mark.parametrize("damage", ["garbage", "pickle", "type"])
def test_a_damaged_folder_is_one_line(state: Path, damage: str) -> None:
    """Whatever is wrong in the recovery store, the error names it and what to do."""
    _run(state, PLACES)
    if damage == "garbage":
        for path in (state / "recovery").iterdir():
            path.write_bytes(b"garbage" * 1000)
    else:
        content = b"no pickle" if damage == "pickle" else pickle.dumps(7)
        _ask(state, "UPDATE snaps SET ser_change = ? WHERE state_key = 'a/1'", content)
    with pytest.raises(EngineError, match="headwater replay") as error:
        read_positions(state)
    assert "\n" not in str(error.value)


def test_bytewax_resumes_from_a_store_that_was_written(state: Path) -> None:
    """Each piece of state comes back just so, in this and in later executions."""
    snapshots = [Snapshot("headwater.log", n, pickle.dumps(p)) for n, p in PLACES.items()]
    write_recovery(state / "recovery", snapshots)
    assert read_positions(state) == PLACES
    further = {**PLACES, "b/0": Position(10, 4)}
    assert _run(state, further) == PLACES
    assert read_positions(state) == further
    shutil.move(state, state.with_name("moved"))
    assert _run(state.with_name("moved"), PLACES) == further
