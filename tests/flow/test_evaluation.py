"""The flow's evaluation of its own predictions, as a file and as metrics."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import pytest
from prometheus_client import CollectorRegistry
from sklearn.metrics import brier_score_loss, log_loss

from contracts import metric_names as names
from contracts.evaluation_file import evaluation_file, read_evaluation, write_evaluation
from dataflows.flow.evaluation_metrics import EvaluationCollector
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
