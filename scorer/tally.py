"""Histograms and counters that cost next to nothing to use: those of the library take locks.

``prometheus_client`` counts from any thread, in three quarters of a microsecond. A request tells of
half a dozen such values, all from the event loop, where a fifth of that does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Series:
    """One histogram; observations come from one thread, and any may look."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """``bounds`` are the upper ends of the buckets, ascending and without infinity."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count a value in the first bucket whose upper end is not below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def shown(self) -> tuple[list[tuple[str, float]], float]:
        """(upper end, count up to it) of each bucket, and the sum of all values."""
        ends = [*map(floatToGoString, self._bounds), "+Inf"]
        counts = map(float, accumulate(self._counts.copy()))
        return list(zip(ends, counts, strict=True)), self._total


class Tally(Collector):
    """A histogram for each combination of labels, shown by a registry."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """Without labels there is one series from the start."""
        self._name = name
        self._text = text
        self._label_names = tuple(labels)
        self._bounds = tuple(bounds)
        self._series: dict[tuple[str, ...], Series] = {}
        if not labels:
            self.labels()
        registry.register(self)

    def labels(self, *values: str) -> Series:
        """The series with these labels; whoever counts often keeps it."""
        assert len(values) == len(self._label_names)
        return self._series.setdefault(values, Series(self._bounds))

    def observe(self, value: float) -> None:
        """Count a value where there are no labels."""
        self._series[()].observe(value)

    def describe(self) -> Iterable[Metric]:
        """The name, for the registry to refuse a second of the same."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """All series as they are now."""
        family = self._family()
        # A copy: the loop may add a series while we, another thread, go through them.
        for labels, series in self._series.copy().items():
            buckets, total = series.shown()
            family.add_metric(labels, buckets, total)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self._label_names)


class Sums(Collector):
    """A counter for each combination of labels, counted by one thread, shown by a registry."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        """Nothing is counted yet."""
        self._name = name
        self._text = text
        self._label_names = tuple(labels)
        self._sums: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def add(self, labels: tuple[str, ...], count: int) -> None:
        """Count so many where the labels have these values."""
        self._sums[labels] = self._sums.get(labels, 0) + count

    def describe(self) -> Iterable[Metric]:
        """The name, for the registry to refuse a second of the same."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """All sums as they are now."""
        family = self._family()
        for labels, total in self._sums.copy().items():
            family.add_metric(labels, total)
        return [family]

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self._name, self._text, labels=self._label_names)
