"""What a model must beat: the labels so far, and the last one."""

from __future__ import annotations

from typing import Protocol

from contracts.model_spec import Task


class Baselines(Protocol):
    """Two trivial predictions, kept from label to label; see ``records.Outcomes``."""

    def at_prediction(self) -> tuple[float, float]:
        """What is known of both when a prediction is made."""

    def at_label(self, rate: float, last: float, truth: float) -> tuple[float, float]:
        """Both, once the truth is there; ``rate`` and ``last`` are of ``at_prediction``."""

    def learn(self, truth: float) -> None:
        """Take in a label."""


class RateBaselines:
    """The share of True and the last label: for truths of 1.0 and 0.0."""

    def __init__(self) -> None:
        self._true = self._learned = 0
        self._last = 0.5

    def at_prediction(self) -> tuple[float, float]:
        """See ``Baselines``."""
        return (self._true / self._learned if self._learned else 0.5), self._last

    def at_label(self, rate: float, last: float, truth: float) -> tuple[float, float]:
        """See ``Baselines``."""
        return rate, last

    def learn(self, truth: float) -> None:
        """See ``Baselines``."""
        self._learned += 1
        self._true += truth != 0.0
        self._last = truth


class MeanBaselines:
    """The mean of the labels and the last one: for numbers."""

    def __init__(self) -> None:
        self._mean = self._last = 0.0
        self._learned = 0

    def at_prediction(self) -> tuple[float, float]:
        """See ``Baselines``."""
        return self._mean, self._last

    def at_label(self, rate: float, last: float, truth: float) -> tuple[float, float]:
        """See ``Baselines``."""
        return rate, last

    def learn(self, truth: float) -> None:
        """See ``Baselines``."""
        self._learned += 1
        self._mean += (truth - self._mean) / self._learned
        self._last = truth


class ClassBaselines:
    """The shares of the classes and the last class: for places of classes."""

    def __init__(self) -> None:
        self._counts: list[int] = []
        self._learned = 0
        self._last = -1.0

    def at_prediction(self) -> tuple[float, float]:
        """See ``Baselines``; the share is known only once the class is."""
        return 0.0, self._last

    def at_label(self, rate: float, last: float, truth: float) -> tuple[float, float]:
        """See ``Baselines``."""
        place = int(truth)
        count = self._counts[place] if place < len(self._counts) else 0
        return (count / self._learned if self._learned else 0.0), float(last == truth)

    def learn(self, truth: float) -> None:
        """See ``Baselines``."""
        place = int(truth)
        self._counts.extend([0] * (place + 1 - len(self._counts)))
        self._counts[place] += 1
        self._learned += 1
        self._last = truth


def baselines_for(task: Task) -> Baselines:
    """Those of a task."""
    if task == "regression":
        return MeanBaselines()
    return ClassBaselines() if task == "multiclass" else RateBaselines()
