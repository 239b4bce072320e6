"""Compiles the kernels of a run: ``python -m tests.kernels windows``, and without it all others.

Numba keeps what it has compiled on the disk. In a new clone several processes of tests would
otherwise begin at the same time to compile the same, half a minute each.
"""

from __future__ import annotations

import sys

import numpy as np

from contracts.plan import Aggregate, Column, View
from dataflows.drift.monitor import DriftMonitor
from dataflows.evaluation.board import EvaluationBoard
from dataflows.hashing import hash_texts
from dataflows.learning.learner import Learner
from dataflows.sources import kafka_batches
from dataflows.sources.plain_chunks import PlainChunks
from dataflows.stores.redis_commands import RowLayout
from dataflows.windows.view_state import warm_up
from tests.drift import streams
from tests.evaluation import rows as evaluated
from tests.learning import rows as learned
from tests.sources.chunks import chunk_of

ROWS = 2_000


def main(arguments: list[str]) -> None:
    """Compile those that are asked for."""
    if arguments == ["windows"]:
        exact = Aggregate("n", "int64", "x", "count", window_us=2, hop_us=1)
        view = View("all", "", ("k",), ("string",), (exact,), 0, "", exact_tiles_max=4)
        warm_up([view])
    else:
        compile_others()


def compile_others() -> None:
    """All but those of windows."""
    rows = [learned.late_row(number) for number in range(60)]
    learner = Learner(learned.spec())
    learned.advance(learner, learned.predictions(rows), learned.labels_of(rows), 70)
    Learner.loads(learner.spec, learner.dumps()).finish(learned.END_US)
    generator = np.random.default_rng(1)
    monitor = DriftMonitor(streams.spec(streams.small_plan()))
    streams.follow(monitor, 0, streams.make_rows(generator, ROWS), generator.random(ROWS))
    monitor.add_outcomes(streams.times_us(0, ROWS), np.zeros(ROWS))
    for task in evaluated.TASKS:
        board = EvaluationBoard(task, ["carrier"], evaluated.SECOND_US)
        board.add(evaluated.make(task, ROWS), np.arange(ROWS) // 150, [["a"] * ROWS])
        board.report()
    kafka_batches.warm_up()
    hash_texts(["one"])
    PlainChunks([Column("at", "timestamp", False)], "at").read(chunk_of([b"{}"]))
    sum_of_x = Aggregate("n", "float64", "x", "sum", window_us=2, hop_us=1)
    layout = RowLayout("any", View("v", "", ("k",), ("string",), (sum_of_x,), 0, ""), 60)
    layout.encode([b"key"], np.ones(1, np.int64), np.ones((1, 1)))


if __name__ == "__main__":
    main(sys.argv[1:])
