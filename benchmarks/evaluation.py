"""Evaluating outcomes by version and segment, against River's metrics in the same groups.

A board keeps log loss, Brier score, accuracy, AUC and calibration of the model, and the first three
of two baselines, in each group. River gets the model's log loss, ROC AUC (10 thresholds) and
accuracy only, in a dictionary of groups. The board's figures are compared with the rows themselves
before anything is reported, and with those of other cuts to the last bit.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from river import metrics

from benchmarks._environment import describe, write
from benchmarks._reach import Reach, hold
from dataflows.evaluation.board import EvaluationBoard
from dataflows.evaluation.judged import Judged

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
RIVER: list[Any] = [metrics.LogLoss, metrics.ROCAUC, metrics.Accuracy]
Rows = tuple[Judged, Any, list[list[str | None]]]


def make_rows(count: int, segments: int, values: int) -> Rows:
    """One outcome a second, with its version (a new one each tenth) and its segments."""
    generator = np.random.default_rng(2013)
    labels = (generator.random(count) < 0.2).astype(np.float64)
    scores = 1 / (1 + np.exp(-(generator.normal(size=count) + 2 * labels - 2)))
    times_us = np.arange(count, dtype=np.int64) * SECOND_US
    judged = Judged(
        labels,
        scores,
        times_us,
        baseline_rates=np.full(count, 0.2),
        baseline_lasts=np.roll(labels, 1),
    )
    columns: list[list[str | None]] = [
        [str(value) for value in generator.integers(0, values, count).tolist()]
        for _ in range(segments)
    ]
    return judged, np.arange(count) * 10 // count, columns


def names(rows: Rows) -> list[str]:
    """Of the segments."""
    return [f"s{place}" for place in range(len(rows[2]))]


def evaluate(rows: Rows, call_rows: int) -> tuple[float, EvaluationBoard]:
    """CPU-seconds of a board for all rows, so many in a call."""
    judged, versions, columns = rows
    board = EvaluationBoard("binary", names(rows), DAY_US)
    calls = [
        (judged.take(part), versions[part], [column[part] for column in columns])
        for start in range(0, len(judged), call_rows)
        for part in [slice(start, start + call_rows)]
    ]
    started = time.process_time()
    for call in calls:
        board.add(*call)
    return time.process_time() - started, board


def by_river(rows: Rows) -> float:
    """CPU-seconds of River's metrics for all rows."""
    judged, versions, columns = rows
    groups: dict[Any, Any] = {}
    truths, scores = (judged.labels != 0).tolist(), judged.scores.tolist()
    values = list(zip(*columns, strict=True)) if columns else [()] * len(judged)
    started = time.process_time()
    for truth, score, version, here in zip(truths, scores, versions.tolist(), values, strict=True):
        for key in (None, *enumerate(here)):
            group = groups.get((version, key))
            if group is None:
                group = groups[version, key] = [make() for make in RIVER]
            for metric in group:
                guess = score > 0.5 if metric.requires_labels else {True: score}
                metric.update(truth, guess)
    return time.process_time() - started


def check(rows: Rows, board: EvaluationBoard, other: EvaluationBoard) -> None:
    """Raise AssertionError unless the figures are right."""
    judged = rows[0]
    found = board.report()["all"]["all"]
    truth = np.where(judged.labels != 0, judged.scores, 1 - judged.scores)
    np.testing.assert_allclose(found["log_loss"], -np.log(truth).mean(), rtol=1e-12)
    np.testing.assert_allclose(found["brier"], ((1 - truth) ** 2).mean(), rtol=1e-12)
    assert msgspec.json.encode(board.report()) == msgspec.json.encode(other.report())


def measure(count: int, call_rows: int, segments: int, values: int) -> dict[str, Any]:
    """Figures of one world; the best of three rounds for each way."""
    rows = make_rows(count, segments, values)
    _, other = evaluate(rows, call_rows // 3 + 1)
    some = slice(0, count // 10)  # River takes a while
    fewer = (rows[0].take(some), rows[1][some], [column[some] for column in rows[2]])
    ways: dict[str, Callable[[], float]] = {
        "board": lambda: evaluate(rows, call_rows)[0] / count,
        "river": lambda: by_river(fewer) / len(fewer[0]),
    }
    seconds = {name: min(way() for _ in range(3)) for name, way in ways.items()}
    _, board = evaluate(rows, call_rows)
    started = time.process_time()
    file = msgspec.json.encode(board.report())
    report_seconds = time.process_time() - started
    check(rows, board, other)
    return {
        "groups": len(board._groups),
        "us_per_outcome": {name: each * 1e6 for name, each in seconds.items()},
        "times_as_fast_as_river": seconds["river"] / seconds["board"],
        "bytes_per_group": board._metrics.width * 8,
        "state_bytes": len(pickle.dumps(board.dump(), protocol=5)),
        "file_bytes": len(file),
        "report_ms": report_seconds * 1e3,
    }


def reaches(worlds: dict[str, dict[str, Any]]) -> list[Reach]:
    """Figures of all groups at once cost no more than River's of one after another."""
    return [
        Reach(f"{name}: times as fast as River", each["times_as_fast_as_river"], least=1.0)
        for name, each in worlds.items()
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rows-per-call", type=int, default=4_096)
    parser.add_argument("--output", type=Path, default=Path("build/bench/evaluation.json"))
    options = parser.parse_args()
    evaluate(make_rows(10, 1, 2), 10)  # compiles what is not in numba's cache
    worlds = {"no_segments": (0, 0), "three_segments_of_10": (3, 10), "three_of_100": (3, 100)}
    found = {
        name: measure(options.rows, options.rows_per_call, *shape) for name, shape in worlds.items()
    }
    environment = describe(["river", "numba", "numpy"])
    sizes = {"rows": options.rows, "rows_per_call": options.rows_per_call}
    equal = {"equal_to_the_rows": True, "cuts_equal_to_the_last_bit": True}
    write(options.output, {"environment": environment, **sizes, **equal, "worlds": found})
    for name, each in found.items():
        us = each["us_per_outcome"]
        print(
            f"{name:22} {each['groups']:5} groups  {us['board']:6.2f} µs an outcome "
            f"(River {us['river']:6.2f})  report {each['report_ms']:6.1f} ms  "
            f"state {each['state_bytes'] / 1e6:.2f} MB"
        )
    hold(reaches(found))


if __name__ == "__main__":
    main()
