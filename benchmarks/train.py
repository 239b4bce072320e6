"""Batch training on a year of flights: AUC of the second half, seconds, parity of the export.

The dataflow makes the examples first, from January on, as the demo does. Each learner then learns
from January to June and is measured on the rest. Before anything is reported ONNX is held against
the library on every row of the test, and LightGBM is trained twice: the bytes must be the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks._environment import describe, load_average, write
from benchmarks._reach import Reach, hold
from cli.demo.flight_log import FlightLog
from cli.demo.flights import DEPARTED_TOPIC, flight_records, installed_files
from cli.demo.report import JULY_1_US
from contracts.plan import ModelPlan
from contracts.plan_file import plan_path, read_plan
from dataflows.learning.auc import exact_auc
from dataflows.training.examples import Examples, Floats, Period, read_examples
from dataflows.training.export import INPUT, SCORE, run_onnx
from dataflows.training.learners import Fitted, Job, Learner, learner
from dataflows.training.search import Budget
from dataflows.training.split import Shares
from dataflows.training.train import Trained, Wishes, train

MODEL = "late_arrival"
PARITY_MAX = 1e-9
RUNS = ("lightgbm", "sklearn-hist", "sklearn-linear")
_SECONDS_MAX = 600.0
_ROUNDS = 200
_SAME_ROWS = 40_000


class Watched:
    """A learner that keeps the last model it made, to ask the library itself."""

    def __init__(self, name: str) -> None:
        self._learner: Learner = learner(name)
        self.text = self._learner.text
        self.defaults = self._learner.defaults
        self.suggest = self._learner.suggest
        self.last: Fitted | None = None

    def fit(self, job: Job) -> Fitted:
        """As the learner does."""
        self.last = self._learner.fit(job)
        return self.last


def make_examples(folder: Path) -> tuple[Path, frozenset[str]]:
    """A repository after apply and run, and the flights that had left by their scheduled time."""
    repo = folder / "feature_repo"
    source = Path("feature_repo")
    repo.mkdir(parents=True)
    for file in ("definitions.py", "feature_store.yaml"):
        (repo / file).write_bytes((source / file).read_bytes())
    records = flight_records(installed_files())
    FlightLog(records).write(repo / "data" / "log")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    for words in (["apply"], ["run", "--until-end"]):
        command = [sys.executable, "-m", "cli.main", *words, "--repo", str(repo)]
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=1_800, check=False
        )
        if ended.returncode:
            raise SystemExit(f"{' '.join(command)} failed: {ended.stderr[-500:]}")
    departed = records[DEPARTED_TOPIC]
    early = departed["dep_delay"].to_numpy() < 0
    return repo, frozenset(departed["flight_id"].to_numpy()[early].tolist())


def measure(
    plan: ModelPlan, examples: Examples, early: frozenset[str], name: str, trials: int
) -> dict[str, Any]:
    """Train once and look at everything."""
    watched = Watched(name)
    wishes = Wishes(Shares(test_from_us=JULY_1_US), Budget(trials, _SECONDS_MAX))
    begun, cpu = time.perf_counter(), time.process_time()
    trained = train(plan, examples, watched, wishes, time.monotonic)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    later = examples.at(examples.times_us >= JULY_1_US)
    scores = run_onnx(trained.onnx, later.features, SCORE)
    assert watched.last is not None
    apart = float(np.abs(scores - watched.last.predict(later.features)).max())
    if apart > PARITY_MAX:
        raise SystemExit(f"{name}: ONNX differs from the library by {apart}")
    waiting = np.array([key not in early for key in later.keys])
    truths = later.labels > 0.5
    return {
        "learner": trained.learner,
        "trials": trained.found.trials,
        "parameters": dict(trained.found.parameters),
        "auc": exact_auc(truths, scores),
        "auc_before_departure": exact_auc(truths[waiting], scores[waiting]),
        "log_loss": trained.metrics["log_loss"],
        "brier": trained.metrics["brier"],
        "online_auc": exact_auc(truths, later.said["score"]),
        "examples": trained.rows["fit"],
        "test_rows": len(later),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "onnx_bytes": len(trained.onnx),
        "parity_rows": len(later),
        "parity_max_abs_diff": apart,
        **{f"us_{rows}_rows": _run_us(trained, later.features[:rows]) for rows in (1, 64)},
    }


def check_same(plan: ModelPlan, examples: Examples) -> None:
    """Stop unless LightGBM gives the same bytes twice, out of a search with two trials."""
    some = examples.at(np.arange(min(_SAME_ROWS, len(examples))))
    wishes = Wishes(budget=Budget(2, _SECONDS_MAX))
    models = [train(plan, some, learner("lightgbm"), wishes, lambda: 0.0).onnx for _ in range(2)]
    if models[0] != models[1]:
        raise SystemExit("LightGBM: the same examples gave two different models")


def _run_us(trained: Trained, rows: Floats) -> float:
    """Microseconds of one run in ONNX Runtime, the best of several."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        trained.onnx, options, providers=["CPUExecutionProvider"]
    )
    best = float("inf")
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        session.run([SCORE], {INPUT: rows})
        best = min(best, time.perf_counter() - begun)
    return best * 1e6


def reaches(runs: dict[str, dict[str, Any]]) -> list[Reach]:
    """Half a year says more of the next than one pass over it, and costs no parity."""
    best = runs["lightgbm"]
    return [
        Reach("AUC of LightGBM, January to June on July to December", best["auc"], least=0.81),
        Reach("AUC above the online learner's", best["auc"] - best["online_auc"], least=0.0),
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=15, help="of LightGBM's second run")
    parser.add_argument("--output", type=Path, default=Path("build/bench/train.json"))
    options = parser.parse_args()
    load = load_average()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        repo, early = make_examples(Path(folder))
        made_seconds = time.perf_counter() - begun
        plan = read_plan(plan_path(repo)).plan.model(MODEL)
        begun = time.perf_counter()
        examples = read_examples(plan, repo / "data" / "examples" / MODEL, Period())
        read_seconds = time.perf_counter() - begun
    check_same(plan, examples)
    runs = {name: measure(plan, examples, early, name, 1) for name in RUNS}
    runs["lightgbm, searched"] = measure(plan, examples, early, "lightgbm", options.trials)
    packages = ["lightgbm", "scikit-learn", "optuna", "onnx", "onnxruntime", "numpy"]
    figures = {
        "environment": describe(packages) | {"load_average": load},
        "examples_seconds": made_seconds,
        "read_seconds": read_seconds,
        "runs": runs,
    }
    write(options.output, figures)
    for name, run in runs.items():
        print(
            f"{name:20} AUC {run['auc']:.4f} (not yet gone {run['auc_before_departure']:.4f}), "
            f"{run['seconds']:5.1f} s, {run['cpu_seconds']:5.1f} CPU-s, {run['onnx_bytes']:,} "
            f"bytes, {run['parity_max_abs_diff']:.1e} apart, {run['us_1_rows']:.0f} µs a row"
        )
    hold(reaches(runs))


if __name__ == "__main__":
    main()
