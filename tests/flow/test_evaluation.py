"""The flow's evaluation of its own predictions, as a file and as metrics."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from sklearn.metrics import brier_score_loss, log_loss

from contracts import metric_names as names
from contracts.evaluation_file import evaluation_file, read_evaluation, write_evaluation
from dataflows.definitions.repository import Repository
from dataflows.flow.evaluation_metrics import EvaluationCollector
from dataflows.flow.evaluation_sink import EvaluationPartition, EvaluationRows, EvaluationSink
from dataflows.flow.run_context import RunContext
from dataflows.state_files import Handle
from tests.evaluation.rows import make
from tests.flow import shop
from tests.flow.conftest import Run

MODEL = "late_order"


def _file(out: Path) -> Path:
    return evaluation_file(out / "models", MODEL, "pipeline")


def test_figures_are_those_of_the_outcomes(first_run: tuple[Path, Path]) -> None:
    """The file says of all outcomes what scikit-learn says of the table, and splits them up."""
    report = read_evaluation(_file(first_run[1]))
    assert report
    table = first_run[1] / "examples" / MODEL / "outcomes" / "*.parquet"
    with duckdb.connect() as connection:
        query = f"SELECT label, score, baseline_rate FROM read_parquet('{table}')"
        rows = connection.execute(query).fetchnumpy()
    labels, scores, rates = rows["label"], rows["score"], rows["baseline_rate"]
    found = report["all"]["all"]
    assert found["outcomes"] == len(labels) == report["outcomes"]
    assert found["log_loss"] == pytest.approx(log_loss(labels, scores), abs=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    expected = log_loss(labels, rates.clip(1e-15, 1 - 1e-15))
    assert found["baseline_rate_log_loss"] == pytest.approx(expected, abs=1e-12)
    versions = report["versions"].values()
    assert sum(each["all"]["outcomes"] for each in versions) == len(labels)
    shops = report["all"]["segments"]["shop"]
    assert set(shops) == {"0", "1", "2"}
    assert sum(each["outcomes"] for each in shops.values()) == len(labels)


def test_a_lost_file_comes_again(copied_run: tuple[Path, Path], run: Run) -> None:
    """A run writes the file anew, even if there is nothing left to do."""
    log, out = copied_run
    before = _file(out).read_bytes()
    shutil.rmtree(_file(out).parent)
    assert run(log, out).tally.events == 0
    assert _file(out).read_bytes() == before


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@dataclass(frozen=True)
class Sink:
    """A model's evaluation, from whatever it was saved as last."""

    repository: Repository
    out: Path
    clock: Clock

    def open(self, handle: Handle | None = None) -> EvaluationPartition:
        """The partition, gone on at a handle."""
        settings = shop.settings(
            self.repository.directory, self.out / "log", self.out, offline_publish_seconds=60.0
        )
        context = RunContext(
            settings, shop.places(self.out), None, threading.Event(), monotonic=self.clock
        )
        return EvaluationSink(self.repository.plan.models, context).build_part("", MODEL, handle)

    def outcomes(self) -> int | None:
        """How many the file tells of; None without a file."""
        report = read_evaluation(_file(self.out))
        return None if report is None else int(report["outcomes"])


@pytest.fixture
def sink(repository: Repository, tmp_path: Path) -> Sink:
    """One that nothing has come to."""
    return Sink(repository, tmp_path, Clock())


def _rows(count: int, *, has_published: bool = False) -> list[EvaluationRows]:
    columns: tuple[list[str | None], ...] = (["u"] * count, ["s"] * count)
    numbers = np.ones(count, np.int64)
    return [EvaluationRows(make("binary", count), numbers, columns, (), has_published)]


def test_when_the_file_is_written(sink: Sink) -> None:
    """Not before there is a version; then with each one, now and then, and at the end."""
    partition = sink.open()
    partition.write_batch(_rows(5))
    sink.clock.now += 100
    partition.snapshot()
    partition.close()
    assert sink.outcomes() is None
    partition.write_batch(_rows(5, has_published=True))
    partition.snapshot()
    assert sink.outcomes() == 10
    partition.write_batch(_rows(5))
    partition.snapshot()
    assert sink.outcomes() == 10
    partition.write_batch(_rows(0, has_published=True))
    partition.snapshot()
    assert sink.outcomes() == 15
    partition.write_batch(_rows(5))
    sink.clock.now += 61
    partition.snapshot()
    assert sink.outcomes() == 20
    partition.write_batch(_rows(5))
    partition.close()
    assert sink.outcomes() == 25


def test_what_is_saved_is_gone_on_with(sink: Sink) -> None:
    """From any of the last handles the figures are those of that epoch, base or changes."""
    partition = sink.open()
    saved: list[tuple[Handle, int]] = []
    for number in range(1, 80):
        partition.write_batch(_rows(3, has_published=True))
        saved.append((partition.snapshot(), 3 * number))
    assert partition.snapshot() == saved[-1][0]
    # There are changes, and before they are too many there is a new base.
    assert 10 < max(len(handle) for handle, _ in saved) < 70
    for handle, count in saved[:-3:-1]:
        partition = sink.open(handle)
        assert sink.outcomes() == count
    partition.write_batch(_rows(9_000))
    sink.open(partition.snapshot())
    assert sink.outcomes() == count + 9_000


def test_metrics_are_those_of_the_newest_version(
    first_run: tuple[Path, Path], tmp_path: Path
) -> None:
    """They are those in the file as it is now; of a file that cannot be read there are none."""
    file = _file(tmp_path)
    collector = EvaluationCollector(tmp_path / "models", ["other", MODEL])
    registry = CollectorRegistry()
    registry.register(collector)
    labels = {"model": MODEL, "version": "6", "metric": "auc"}
    assert registry.get_sample_value(names.MODEL_METRIC, labels) is None
    report = read_evaluation(_file(first_run[1]))
    assert report
    write_evaluation(file, MODEL, report)
    newest = report["versions"]["6"]["all"]
    assert list(report["versions"])[-1] == "6"
    assert registry.get_sample_value(names.MODEL_METRIC, labels) == newest["auc"]
    assert (
        registry.get_sample_value(names.MODEL_METRIC, {**labels, "metric": "outcomes"})
        == newest["outcomes"]
    )
    assert registry.get_sample_value(names.MODEL_METRIC, {**labels, "version": "5"}) is None
    report["versions"]["6"]["all"]["auc"] = 0.25
    write_evaluation(file, MODEL, report)
    assert registry.get_sample_value(names.MODEL_METRIC, labels) == 0.25
    file.write_bytes(b"garbage")
    os.utime(file, ns=(0, 0))
    assert registry.get_sample_value(names.MODEL_METRIC, labels) is None
