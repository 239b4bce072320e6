"""Random outcomes of each task, and the sums that they should come to."""

from __future__ import annotations

from typing import Any

import numpy as np

from contracts.model_spec import Task
from dataflows.evaluation.exact_sums import Floats
from dataflows.evaluation.judged import Judged

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression", "anomaly")
CLASSES = ("on time", "late", "diverted", "cancelled")
SECOND_US = 1_000_000


def make(task: Task, count: int, seed: int = 0, unusable: float = 0.0) -> Judged:
    """So many outcomes, one each second; of some the score is NaN."""
    generator = np.random.default_rng(seed)
    times_us = np.arange(count, dtype=np.int64) * SECOND_US
    columns = _COLUMNS[task](generator, count)
    lost = generator.random(count) < unusable
    columns["scores"] = np.where(lost, np.nan, columns["scores"])
    return Judged(label_times_us=times_us, **columns)


def _binary(generator: np.random.Generator, count: int) -> dict[str, Any]:
    labels = (generator.random(count) < 0.3).astype(np.float64)
    scores = 1 / (1 + np.exp(-(generator.normal(size=count) + 2 * labels - 1)))
    # Ties, and the sure ones.
    scores = np.where(generator.random(count) < 0.2, scores.round(1), scores)
    return {
        "labels": labels,
        "scores": scores,
        "baseline_rates": generator.random(count),
        "baseline_lasts": (generator.random(count) < 0.3).astype(np.float64),
    }


def _multiclass(generator: np.random.Generator, count: int) -> dict[str, Any]:
    labels = generator.choice(len(CLASSES), count, p=[0.6, 0.3, 0.1, 0.0])
    chances = probabilities(labels, generator)
    return {
        "labels": labels.astype(np.float64),
        "scores": chances.max(axis=1),
        "predicted": chances.argmax(axis=1),
        "truth_probabilities": chances[np.arange(count), labels],
        "baseline_rates": generator.random(count),
        "baseline_lasts": (generator.random(count) < 0.5).astype(np.float64),
    }


def probabilities(labels: Any, generator: np.random.Generator) -> Floats:
    """Of each class, ``[n, classes]``; somewhat right."""
    weights = generator.random((len(labels), len(CLASSES)))
    weights[np.arange(len(labels)), labels] += 0.7
    found: Floats = weights / weights.sum(axis=1, keepdims=True)
    return found


def _regression(generator: np.random.Generator, count: int) -> dict[str, Any]:
    labels = 1e6 + generator.normal(size=count) * 30
    return {
        "labels": labels,
        "scores": labels + generator.normal(size=count) * 10 + 2,
        "baseline_rates": 1e6 + generator.normal(size=count),
        "baseline_lasts": np.roll(labels, 1),
    }


def _anomaly(generator: np.random.Generator, count: int) -> dict[str, Any]:
    labels = (generator.random(count) < 0.05).astype(np.float64)
    scores = generator.normal(size=count) * 3 + labels * 4
    return {"labels": labels, "scores": scores.round(2)}


_COLUMNS = {
    "binary": _binary,
    "multiclass": _multiclass,
    "regression": _regression,
    "anomaly": _anomaly,
}
