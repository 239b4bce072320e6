"""The newest version's figures as Prometheus metrics, read from the evaluation files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts import metric_names as names
from contracts.evaluation_file import EvaluationFileError, evaluation_file, read_evaluation

Sample = tuple[str, str, float]
"""Version, name of the figure, the figure."""


class EvaluationCollector(Collector):
    """Reads a model's file again when it has changed. The flow itself does nothing for it."""

    def __init__(self, root: Path, models: Iterable[str]) -> None:
        """``root`` is the model repository, ``models`` the names of those in the plan."""
        self._files = {name: evaluation_file(root, name, "pipeline") for name in sorted(models)}
        self._read: dict[str, tuple[tuple[int, int], list[Sample]]] = {}

    def describe(self) -> list[Metric]:
        """Nothing in advance: asking would read the files."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One gauge; a model without a file, or with one that cannot be read, is left out."""
        gauge = GaugeMetricFamily(
            names.MODEL_METRIC,
            "A figure of the newest version that has labels.",
            labels=["model", "version", "metric"],
        )
        for model in self._files:
            for version, metric, value in self._samples(model):
                gauge.add_metric([model, version, metric], value)
        yield gauge

    def _samples(self, model: str) -> list[Sample]:
        file = self._files[model]
        try:
            status = file.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
            if model not in self._read or self._read[model][0] != stamp:
                self._read[model] = (stamp, _newest(file))
        except (OSError, EvaluationFileError):
            return []
        return self._read[model][1]


def _newest(file: Path) -> list[Sample]:
    report = read_evaluation(file) or {"versions": {}}
    return [
        (version, metric, value)
        for version, found in list(report["versions"].items())[-1:]
        for metric, value in found["all"].items()
        if isinstance(value, int | float)
    ]
