"""Drift as Prometheus metrics: what the reports of the models say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts import metric_names as names
from contracts.drift_record import DriftReportError, read_report

_LABELS = ["model", "feature", "kind"]


class DriftCollector(Collector):
    """Reads the reports at every scrape. The flow itself does nothing for it."""

    def __init__(self, root: Path, models: Iterable[str]) -> None:
        """``root`` is the model repository, ``models`` the names of those in the plan."""
        self._root = root
        self._models = sorted(models)

    def describe(self) -> list[Metric]:
        """Nothing in advance: asking would read the files."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The latest value of all that is watched, and whether it has drifted."""
        value = GaugeMetricFamily(names.DRIFT_VALUE, "Drift as of the last look.", labels=_LABELS)
        alert = GaugeMetricFamily(names.DRIFT_ALERT, "1 while there is drift.", labels=_LABELS)
        for model in self._models:
            try:
                report = read_report(self._root, model)
            except DriftReportError:
                continue  # `headwater models drift` says what is wrong with it
            for figure in report.figures if report else ():
                labels = [model, figure.feature, figure.kind]
                if figure.value is not None:
                    value.add_metric(labels, figure.value)
                alert.add_metric(labels, 0.0 if figure.since_us is None else 1.0)
        yield value
        yield alert
