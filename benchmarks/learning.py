"""Learning from delayed labels: River's own loop against the learner, on the same rows.

River's loop does nothing but predict and learn, from dictionaries made beforehand. The learner also
matches labels, keeps the metrics of the model and of two baselines, and fills in defaults. Results
are compared to the last bit before anything is reported.

What publishing costs is measured on rows of 25,000 a second, whose labels come 1 to 30 seconds
later: without a version, with one each second, and with each of these put into a repository (here
between two calls; the flow does it beside).
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import linear_model, optim, preprocessing

from benchmarks._environment import describe, write
from benchmarks._reach import Reach, hold
from contracts.feature_schema import FeatureSchema, VectorField
from contracts.model_repository import ModelRepository
from contracts.plan import ModelPlan, Plan, Topic
from dataflows.batches import LabelRows, ModelInput, SpineRows, ranks_of
from dataflows.learning.examples_digest import Digested
from dataflows.learning.learner import Learner
from dataflows.learning.online import RiverOnline
from dataflows.learning.records import Labels, LearnerSpec, Predictions
from dataflows.model_step import ModelStep
from dataflows.versions import VersionPublisher
from dataflows.watermark import PartitionClock

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
DAYS = 100
MISSING = 0.02
NEVER_US = 10_000 * DAY_US
SECOND_US = 1_000_000
EXAMPLES_PER_SECOND = 25_000
Call = tuple[Predictions, Labels, int]


@dataclass(frozen=True)
class Rows:
    """Predictions and labels, both in order of time; ``labels.keys`` are numbers of predictions."""

    predictions: Predictions
    labels: Labels
    schema: FeatureSchema

    def calls(self, size: int) -> list[Call]:
        """The rows in calls of ``size`` predictions, each with the labels of that time."""
        times_us, labelled_us = self.predictions.times_us, self.labels.times_us
        ends_us = np.unique([*times_us[size::size].tolist(), int(labelled_us[-1]) + 1])
        calls: list[Call] = []
        first = first_label = 0
        for end_us in ends_us.tolist():
            last = int(np.searchsorted(times_us, end_us))
            last_label = int(np.searchsorted(labelled_us, end_us))
            calls.append(
                (
                    Predictions(
                        self.predictions.keys[first:last],
                        times_us[first:last],
                        self.predictions.features[first:last],
                    ),
                    Labels(
                        self.labels.keys[first_label:last_label],
                        labelled_us[first_label:last_label],
                        self.labels.values[first_label:last_label],
                    ),
                    end_us,
                )
            )
            first, first_label = last, last_label
        return calls


def estimator() -> Any:
    """The commonest pipeline."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.001))


def make_rows(count: int, fields: int) -> Rows:
    """Random rows over 100 days, 2 % of the values missing, labels 1 to 30 hours later."""
    generator = np.random.default_rng(2013)
    features = generator.normal(size=(count, fields)) * generator.uniform(0.1, 100, fields)
    noise = generator.normal(size=count) * np.abs(features[:, 0]).mean()
    truths = features[:, 0] + noise > 0
    features[generator.random((count, fields)) < MISSING] = np.nan
    times_us = np.sort(generator.integers(0, DAYS * DAY_US, count))
    labelled_us = times_us + generator.integers(HOUR_US, 30 * HOUR_US, count)
    order = np.argsort(labelled_us, kind="stable")
    keys = [str(number) for number in range(count)]
    schema = FeatureSchema(
        "benchmark",
        tuple(
            VectorField(name=f"f{place}", kind="request", dtype="float64", default=0.0)
            for place in range(fields)
        ),
    )
    return Rows(
        Predictions(keys, times_us, features),
        Labels([keys[row] for row in order], labelled_us[order], truths[order].astype(np.float64)),
        schema,
    )


def river_loop(rows: Rows) -> tuple[float, NDArray[np.float64]]:
    """CPU-seconds of River alone, and its scores."""
    filled = np.where(np.isnan(rows.predictions.features), 0.0, rows.predictions.features)
    vectors = [dict(zip(rows.schema.names, row, strict=True)) for row in filled.tolist()]
    # A label goes before a prediction of the same time.
    ends = np.searchsorted(rows.labels.times_us, rows.predictions.times_us, side="right").tolist()
    answers = list(zip(map(int, rows.labels.keys), (rows.labels.values != 0).tolist(), strict=True))
    model, scores, done = estimator(), [], 0
    started = time.process_time()
    for x, end in zip(vectors, ends, strict=True):
        for number, truth in answers[done:end]:
            model.learn_one(vectors[number], truth)
        done = end
        scores.append(model.predict_proba_one(x)[True])
    for number, truth in answers[done:]:
        model.learn_one(vectors[number], truth)
    return time.process_time() - started, np.array(scores)


def learner(rows: Rows, every_us: int = NEVER_US) -> Learner:
    """A learner that publishes every so often."""
    return Learner(LearnerSpec("benchmark", rows.schema, estimator, 7 * DAY_US, every_us))


def learner_by_river(rows: Rows) -> Learner:
    """A learner that asks River row by row, as it does for pipelines that are not compiled."""
    slow = learner(rows)
    by_river = RiverOnline(slow._estimator, rows.schema.names)
    slow._online = Digested(by_river, slow._examples)
    return slow


def run(wanted: Learner, calls: list[Call]) -> tuple[float, NDArray[np.float64], int]:
    """CPU-seconds, all scores, and how many versions were published."""
    started = time.process_time()
    results = [wanted.advance(*call) for call in calls]
    seconds = time.process_time() - started
    scores = np.concatenate([result.predictions.scores for result in results])
    return seconds, scores, sum(len(result.versions) for result in results)


def run_step(rows: Rows, calls: list[Call]) -> tuple[float, NDArray[np.float64]]:
    """CPU-seconds and scores of the flow's whole model step: vectors, order, and the learner."""
    model = plan_of(rows)
    topics = tuple(Topic(name, (), "event_timestamp", 0, "") for name in ("s", "l"))
    spec = LearnerSpec("benchmark", rows.schema, estimator, 7 * DAY_US, NEVER_US)
    step = ModelStep(Plan("benchmark", topics, (), (model,)), model, spec, 2)
    batches = []
    for number, (predictions, labels, end_us) in enumerate(calls):
        count, labelled = len(predictions.keys), len(labels.keys)
        spine = SpineRows(
            predictions.keys, predictions.times_us, ranks_of(0, np.arange(count) + number * 10**6),
            predictions.features, np.zeros(count, np.int64),
        )  # fmt: skip
        ranks = ranks_of(1, np.arange(labelled) + number * 10**6)
        truths = LabelRows(labels.keys, labels.times_us, ranks, labels.values)
        clocks = [PartitionClock(partition, end_us, end_us, False) for partition in (0, 1)]
        batches.append(
            [ModelInput(clocks[0], True, spine, None), ModelInput(clocks[1], True, None, truths)]
        )
    started = time.process_time()
    steps = [step.on_batch(items) for items in batches]
    seconds = time.process_time() - started
    return seconds, np.concatenate([s.learned.predictions.scores for s in steps if s is not None])


def measure(rows: Rows, call_rows: int) -> dict[str, Any]:
    """All figures; the best of three rounds for each way."""
    calls = rows.calls(call_rows)
    run(learner(rows, DAY_US), calls[:3])  # compiles what is not in numba's cache
    ways: dict[str, Callable[[], tuple[float, NDArray[np.float64]]]] = {
        "river_loop": lambda: river_loop(rows),
        "learner_river": lambda: run(learner_by_river(rows), calls)[:2],
        "learner_compiled": lambda: run(learner(rows), calls)[:2],
        "model_step": lambda: run_step(rows, calls),
    }
    seconds = dict.fromkeys(ways, float("inf"))
    expected = river_loop(rows)[1]
    for _ in range(3):
        for name, way in ways.items():
            used, scores = way()
            np.testing.assert_array_equal(scores, expected)
            seconds[name] = min(seconds[name], used)
    rounds = [run(learner(rows, DAY_US), calls) for _ in range(3)]
    publishing, versions = min(used for used, _, _ in rounds), rounds[0][2]
    count = len(rows.predictions.keys)
    fastest = seconds["learner_compiled"]
    return {
        "rows": count,
        "fields": len(rows.schema.fields),
        "rows_per_call": call_rows,
        "equal_to_the_last_bit": True,
        "cpu_seconds": seconds,
        "us_per_row": {name: used / count * 1e6 for name, used in seconds.items()},
        "times_as_fast_as_river_loop": {
            name: seconds["river_loop"] / used for name, used in seconds.items()
        },
        "versions": versions,
        "ms_per_version": (publishing - fastest) / versions * 1e3,
    }


def second_rows(seconds: int, fields: int) -> Rows:
    """Rows of so many seconds of event time, their labels 1 to 30 seconds later."""
    rows = make_rows(seconds * EXAMPLES_PER_SECOND, fields)
    generator = np.random.default_rng(25)
    count = len(rows.predictions.keys)
    times_us = np.arange(count) * SECOND_US // EXAMPLES_PER_SECOND
    labelled_us = times_us + generator.integers(SECOND_US, 30 * SECOND_US, count)
    order = np.argsort(labelled_us, kind="stable")
    values = generator.integers(0, 2, count).astype(np.float64)
    labels = Labels([rows.predictions.keys[row] for row in order], labelled_us[order], values)
    return Rows(Predictions(rows.predictions.keys, times_us, rows.predictions.features), labels,
                rows.schema)  # fmt: skip


def plan_of(rows: Rows) -> ModelPlan:
    """The benchmark's model, resolved."""
    return ModelPlan("benchmark", "s", "k", "l", "k", "v", DAY_US, SECOND_US, (), rows.schema)


def publisher(rows: Rows, folder: Path) -> VersionPublisher:
    """What puts versions of the benchmark's model into a repository."""
    models = {"benchmark": plan_of(rows)}
    return VersionPublisher(ModelRepository(folder), models, {"benchmark": ""}, "", lambda: 0)


def publishing(seconds: int, fields: int, call_rows: int) -> dict[str, Any]:
    """What a version each second costs, as shares of the time without; best of three rounds."""
    rows = second_rows(seconds, fields)
    calls = rows.calls(call_rows)
    cpu: dict[str, float] = dict.fromkeys(("none", "each_second", "into_repository"), math.inf)
    wall, versions = dict(cpu), 0
    for _ in range(3):
        for way in cpu:
            wanted = learner(rows, NEVER_US if way == "none" else SECOND_US)
            with tempfile.TemporaryDirectory() as folder:
                target = publisher(rows, Path(folder))
                begun, started = time.perf_counter(), time.process_time()
                made = 0
                for call in calls:
                    for version in wanted.advance(*call).versions:
                        made += 1
                        if way == "into_repository":
                            target.publish("benchmark", version, {})
                cpu[way] = min(cpu[way], time.process_time() - started)
                wall[way] = min(wall[way], time.perf_counter() - begun)
            versions = max(versions, made)
    count = len(rows.predictions.keys)
    return {
        "versions": versions,
        "examples_per_cpu_second": {way: count / used for way, used in cpu.items()},
        "examples_per_second": {way: count / used for way, used in wall.items()},
        "cost_share_cpu": {way: 1 - cpu["none"] / used for way, used in cpu.items()},
        "cost_share": {way: 1 - wall["none"] / used for way, used in wall.items()},
        # Of a flow that is as fast as it can be and makes a version each second of the clock.
        "cost_share_of_one_a_second": {
            way: (used - wall["none"]) / versions for way, used in wall.items()
        },
    }


def reaches(figures: dict[str, Any]) -> list[Reach]:
    """What decision 6 relies on."""
    rate = 1e6 / figures["us_per_row"]["model_step"]
    cost = figures["publishing"]["cost_share_of_one_a_second"]["into_repository"]
    return [
        Reach("examples a CPU-second, of the whole model step", rate, least=25_000),
        Reach("share of the time for a version each second", cost, most=0.05),
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--fields", type=int, default=20)
    parser.add_argument("--rows-per-call", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--output", type=Path, default=Path("build/bench/learning.json"))
    options = parser.parse_args()
    figures = measure(make_rows(options.rows, options.fields), options.rows_per_call)
    figures["publishing"] = publishing(options.seconds, options.fields, options.rows_per_call)
    environment = describe(["river", "numba", "numpy", "onnx", "onnxruntime"])
    write(options.output, {"environment": environment, **figures})
    for name, each_us in figures["us_per_row"].items():
        ratio = figures["times_as_fast_as_river_loop"][name]
        print(f"{name:18} {each_us:6.2f} µs a row   {ratio:5.2f} × River's loop")
    print(f"{'publishing':18} {figures['ms_per_version']:6.2f} ms a version")
    for way, rate in figures["publishing"]["examples_per_second"].items():
        share = figures["publishing"]["cost_share"][way]
        one = figures["publishing"]["cost_share_of_one_a_second"][way]
        # The rest of it is waiting for the disk, which the flow does beside.
        cpu = figures["publishing"]["cost_share_cpu"][way]
        print(
            f"{way:18} {rate:9,.0f} examples/s   {share:6.1%} less (CPU {cpu:.1%}) with a version "
            f"for each {EXAMPLES_PER_SECOND:,} examples, {one:6.1%} with one a second of the clock"
        )
    hold(reaches(figures))


if __name__ == "__main__":
    main()
