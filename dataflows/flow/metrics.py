"""The dataflow's Prometheus endpoint: shows what its workers write into their progress files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts import metric_names as names
from contracts.settings import split_address
from dataflows.flow.errors import EngineError
from dataflows.flow.progress import Progress, online_watermark_us, read_progress
from dataflows.watermark import NOT_YET

_COUNTERS = (
    (names.EVENTS, "Good records read.", "events"),
    (names.BAD_RECORDS, "Records sent to dead-letter topics.", "bad"),
    (names.LATE_EVENTS, "Events older than their partition's watermark.", "late"),
    (names.ONLINE_ROWS, "Rows written to the online store.", "online_rows"),
    (names.OFFLINE_ROWS, "Rows written to the offline tables.", "offline_rows"),
    (names.LABELS, "Predictions that got their label.", "labels"),
    (names.MODEL_VERSIONS, "Model versions published.", "versions"),
)


def current_progress(state: Path) -> list[Progress]:
    """What all workers last said; empty before the first word, and while a run begins anew."""
    try:
        return read_progress(state)
    except FileNotFoundError:
        # A run that begins removes the files of the one before.
        return []


class ProgressCollector(Collector):
    """Reads the progress files at every scrape. The flow itself does nothing for it."""

    def __init__(self, state: Path, process: int = 0) -> None:
        """``state`` is the state folder of the dataflow, ``process`` the number of this one."""
        self._state = state
        self._process = process

    def describe(self) -> list[Metric]:
        """Nothing in advance: asking would read the files."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Totals of this process, and how far its part of the online store is in event time."""
        workers = [one for one in current_progress(self._state) if one.process == self._process]
        if not workers:
            return
        # Counts are those of the process, and each worker tells all of them as it last saw them.
        for name, text, field in _COUNTERS:
            yield _counter(name, text, max(getattr(worker, field) for worker in workers))
        watermark_us = online_watermark_us(workers)
        if watermark_us > NOT_YET:
            gauge = GaugeMetricFamily(
                names.WATERMARK, "Event time that a stage has passed.", labels=["stage"]
            )
            gauge.add_metric(["online"], watermark_us / 1e6)
            yield gauge


@contextmanager
def metrics_endpoint(
    address: str, state: Path, process: int = 0, more: Iterable[Collector] = ()
) -> Iterator[None]:
    """Show the metrics on ``host:port`` as long as the context; nothing if ``address`` is empty.

    What ``more`` collects is shown by the first process only, which speaks for all.

    Raises:
        EngineError: the address cannot be listened on.
    """
    if not address:
        yield
        return
    registry = CollectorRegistry()
    registry.register(ProgressCollector(state, process))
    for collector in more if process == 0 else ():
        registry.register(collector)
    host, port = split_address(address)
    try:
        server, thread = start_http_server(port, host, registry=registry)
    except OSError as error:
        raise EngineError(
            f"cannot listen on {address}: {error.strerror}; set HEADWATER_METRICS_ADDRESS to a "
            "free one"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _counter(name: str, text: str, value: int) -> Metric:
    # The library adds the suffix itself.
    family = CounterMetricFamily(name.removesuffix("_total"), text)
    family.add_metric([], value)
    return family
