"""Metrics that nobody counts: they are looked up when somebody asks, or measured by a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts import metric_names as names

# (model, channel -> version that serves there) of all models.
Models = Callable[[], Iterable[tuple[str, Mapping[str, str]]]]
_TRIES = 5
_EVERY_SECONDS = 0.1


def register_process(registry: CollectorRegistry) -> None:
    """Show memory, CPU time, open files and garbage collections of this process."""
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)


def register_models(registry: CollectorRegistry, models: Models) -> None:
    """Show which versions serve."""
    registry.register(_ModelInfo(models))


class _ModelInfo(Collector):
    """One sample for each channel of each model; versions that serve no more are gone."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for model, channels in self._look():
            for channel, version in sorted(channels.items()):
                family.add_metric([model, channel, version], 1)
        return [family]

    def _look(self) -> list[tuple[str, Mapping[str, str]]]:
        for _ in range(_TRIES):
            try:
                return list(self._models())
            except RuntimeError:
                # The loop changed its dictionary while we, another thread, went through it.
                continue
        return []

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily(
            names.MODEL_INFO, "Versions that serve.", labels=["model", "channel", "version"]
        )


class LoopLag:
    """Measures again and again how late the event loop comes to what is due."""

    def __init__(
        self, observe: Callable[[float], None], every_seconds: float = _EVERY_SECONDS
    ) -> None:
        """``observe`` gets seconds; an idle loop may be a millisecond late, which is nothing."""
        self._observe = observe
        self._every_seconds = every_seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure in the running loop, until ``stop``."""
        loop = asyncio.get_running_loop()
        self._next(loop)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self._every_seconds
        self._timer = loop.call_at(due, self._measure, loop, due)

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._observe(max(0.0, loop.time() - due))
        self._next(loop)
