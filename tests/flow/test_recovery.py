"""Snapshots that were never committed do not come back from the dead."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax._bytewax import cluster_main
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink, TestingSource

from dataflows.flow.recovery import open_recovery

EPOCHS = range(1, 21)


def _start_bytewax(folder: Path) -> None:
    """Run a flow without input; Bytewax writes down where it resumed."""
    flow = Dataflow("tiny")
    op.output("out", op.input("in", flow, TestingSource([])), TestingSink([]))
    cluster_main(flow, [], 0, recovery_config=RecoveryConfig(folder))


def _store(folder: Path) -> Path:
    return next(folder.glob("part-*.sqlite3"))


def _ask(folder: Path, query: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(_store(folder))) as store:
        return store.execute(query).fetchall()


def _fill(folder: Path, executions: list[tuple[int, int]], fronts: list[tuple[int, ...]]) -> None:
    """Executions as (workers, resume epoch), what workers said as (execution, worker, epoch)."""
    with closing(sqlite3.connect(_store(folder))) as store, store:
        for number, (workers, epoch) in enumerate(executions):
            row = (number, workers, epoch)
            store.execute(
                "INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (?, ?, ?)", row
            )
        for front in fronts:
            store.execute(
                "INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (?, ?, ?)", front
            )
        for epoch in EPOCHS:
            store.execute(
                "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change)"
                " VALUES ('tiny.gone', 'key', ?, x'80044b022e')",
                (epoch,),
            )


@pytest.mark.parametrize(
    ("executions", "fronts", "resumed"),
    [
        ([(1, 1)], [(0, 0, 7)], 7),
        ([(1, 1)], [], 1),
        ([(2, 5)], [(0, 0, 9), (0, 1, 8)], 8),
        ([(2, 5)], [(0, 0, 9)], 5),
        ([(3, 5)], [(0, 0, 9), (0, 2, 12)], 5),
        ([(1, 1), (1, 9)], [(0, 0, 9), (1, 0, 15)], 15),
        ([(1, 1), (1, 9)], [(0, 0, 9)], 9),
        ([(1, 1), (2, 9), (1, 11)], [(0, 0, 9), (1, 0, 11), (1, 1, 14), (2, 0, 13)], 13),
    ],
)
def test_what_was_not_committed_goes_as_bytewax_counts(
    tmp_path: Path,
    executions: list[tuple[int, int]],
    fronts: list[tuple[int, ...]],
    resumed: int,
) -> None:
    """All snapshots before the epoch that Bytewax resumes from stay, and no other."""
    folder = tmp_path / "recovery"
    open_recovery(folder)
    _fill(folder, executions, fronts)
    open_recovery(folder)
    kept = [epoch for (epoch,) in _ask(folder, "SELECT snap_epoch FROM snaps ORDER BY 1")]
    assert kept == [epoch for epoch in EPOCHS if epoch < resumed]
    _start_bytewax(folder)
    newest = "SELECT resume_epoch FROM exs ORDER BY ex_num DESC LIMIT 1"
    assert _ask(folder, newest) == [(resumed,)]


def test_a_store_that_never_ran_stays(tmp_path: Path) -> None:
    """A process killed between making the store and running leaves one that can be used."""
    folder = tmp_path / "recovery"
    open_recovery(folder)
    open_recovery(folder)
    _start_bytewax(folder)
    assert _ask(folder, "SELECT ex_num, resume_epoch FROM exs") == [(0, 1)]


def test_a_store_half_made_is_made_anew(tmp_path: Path) -> None:
    """What a process that was killed while making the store left behind is in nobody's way."""
    folder = tmp_path / "recovery"
    left = folder.with_name("recovery.new")
    left.mkdir()
    (left / "part-0.sqlite3").write_bytes(b"half")
    open_recovery(folder)
    assert _ask(folder, "SELECT COUNT(*) FROM snaps") == [(0,)]
    assert not left.exists()


def test_garbage_is_an_error(tmp_path: Path) -> None:
    """Files that SQLite cannot read are reported, not replaced."""
    folder = tmp_path / "recovery"
    open_recovery(folder)
    _store(folder).write_bytes(b"garbage" * 1000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        open_recovery(folder)
