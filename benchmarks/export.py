"""River to ONNX: how long an export takes, how large it is, how exact, and how fast it scores.

Each estimator learns from the same rows, is exported, and is compared with its export before
anything is reported. Times are CPU time of one thread, the best of several rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks._environment import describe, write
from benchmarks._exported import CATEGORIES, CLASSES, EXPORTED, FEATURES, NUMBERS, Exported, Kind
from dataflows.river_onnx import to_onnx
from dataflows.river_onnx.parity import Doubles, as_river, parity

TOLERANCE = 1e-9
ROUNDS = 5
ROUND_SECONDS_MIN = 0.02


def make_rows(count: int, seed: int) -> Doubles:
    """Numbers, of which some tell the label, and two categories with 200 values together."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, len(NUMBERS))) * random.uniform(0.1, 50.0, len(NUMBERS))
    shops = random.zipf(1.5, size=count) % 150
    countries = random.integers(0, 50, size=count)
    matrix: Doubles = np.column_stack([numbers, shops, countries]).astype(np.float64)
    assert matrix.shape[1] == len(NUMBERS) + len(CATEGORIES)
    return matrix


def learned(exported: Exported, rows: Doubles) -> Any:
    """The estimator after these rows."""
    estimator = exported.make()
    random = np.random.default_rng(2013)
    for row in rows.tolist():
        x = as_river(FEATURES, row)
        hidden = row[0] / 10.0 + row[1] / 10.0 + random.normal()
        if exported.kind == "anomaly":
            estimator.learn_one(x)
        elif exported.kind == "binary":
            estimator.learn_one(x, hidden > 0)
        elif exported.kind == "multiclass":
            estimator.learn_one(x, CLASSES[int(abs(hidden)) % len(CLASSES)])
        else:
            estimator.learn_one(x, hidden)
    return estimator


def best_seconds(work: Callable[[], Any]) -> float:
    """CPU-seconds of one call, the best of some rounds, each of as many calls as it needs."""
    best, calls = float("inf"), 1
    for _ in range(ROUNDS):
        while True:
            started = time.process_time()
            for _ in range(calls):
                work()
            used = time.process_time() - started
            if used >= ROUND_SECONDS_MIN:
                break
            calls *= 4
        best = min(best, used / calls)
    return best


def river_seconds(estimator: Any, kind: Kind, rows: Doubles) -> float:
    """CPU-seconds of River for one row, from dictionaries made beforehand."""
    methods = {"regression": "predict_one", "anomaly": "score_one"}
    predict = getattr(estimator, methods.get(kind, "predict_proba_one"))
    dictionaries = [as_river(FEATURES, row) for row in rows.tolist()]
    return best_seconds(lambda: [predict(x) for x in dictionaries]) / len(rows)


def session_of(onnx_bytes: bytes) -> onnxruntime.InferenceSession:
    """A session of one thread, as the scorer has them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])


def measure(exported: Exported, count: int, compared: int) -> dict[str, Any]:
    """All figures of one estimator; at most ``count`` rows are learned."""
    estimator = learned(exported, make_rows(min(count, exported.rows), 1))
    classes = CLASSES if exported.kind == "multiclass" else None
    onnx_bytes = to_onnx(estimator, FEATURES, classes)
    rows = make_rows(compared, 2)
    difference = parity(estimator, onnx_bytes, FEATURES, rows, classes)
    assert difference <= TOLERANCE, f"differs by {difference}"
    session = session_of(onnx_bytes)
    one, many = {"features": rows[:1]}, {"features": rows[:64]}
    return {
        "rows_learned": min(count, exported.rows),
        "rows_compared": compared,
        "parity": difference,
        "bytes": len(onnx_bytes),
        "export_ms": best_seconds(lambda: to_onnx(estimator, FEATURES, classes)) * 1e3,
        "load_ms": best_seconds(lambda: session_of(onnx_bytes)) * 1e3,
        "onnx_1_row_us": best_seconds(lambda: session.run(None, one)) * 1e6,
        "onnx_64_rows_us": best_seconds(lambda: session.run(None, many)) * 1e6,
        "river_1_row_us": river_seconds(estimator, exported.kind, rows[:64]) * 1e6,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000, help="learned from, at most")
    parser.add_argument("--compared", type=int, default=2_000, help="rows of the comparison")
    parser.add_argument("--only", default="", help="estimators whose name contains this")
    parser.add_argument("--output", type=Path, default=Path("build/bench/export.json"))
    options = parser.parse_args()
    figures = {}
    print(f"{'':36}{'export':>9}{'size':>10}{'parity':>9}{'1 row':>9}{'64 rows':>10}{'River':>10}")
    for name, exported in EXPORTED.items():
        if options.only not in name:
            continue
        found = figures[name] = measure(exported, options.rows, options.compared)
        print(
            f"{name:36}{found['export_ms']:6.2f} ms{found['bytes'] / 1024:7.1f} KB"
            f"{found['parity']:9.0e}{found['onnx_1_row_us']:6.1f} µs"
            f"{found['onnx_64_rows_us']:7.1f} µs{found['river_1_row_us']:7.1f} µs"
        )
    environment = describe(["river", "numpy", "onnx", "onnxruntime"])
    write(options.output, {"environment": environment, "estimators": figures})


if __name__ == "__main__":
    main()
