"""One page of metrics for all processes that share a port: a scrape must not see just one of them.

Each process counts for itself, and shows that on this machine only. Whoever started them asks all
of them at each scrape and shows the samples with a label ``process``. That is exact, has no files,
and what belongs to one process (memory, the loop's lag) stays apart; Prometheus adds up the rest.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from contracts import metric_names as names
from contracts.settings import split_address
from scorer.errors import ConfigurationError
from scorer.metrics_server import show_metrics

LABEL = "process"
_ASK_TIMEOUT_SECONDS = 2.0
_ASKED_AT_ONCE_MAX = 16
# Far more than all series of a process with thousands of models.
_PAGE_BYTES_MAX = 64 * 1024 * 1024
_PORT_MAX = 65_535
# A process on this machine is asked directly, whatever proxy the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def process_address(address: str, process: int) -> str:
    """Where process number ``process`` (from 0) shows its metrics, if all do at ``address``.

    The ports are those behind the page's own, on 127.0.0.1. Empty if ``address`` is.

    Raises:
        ConfigurationError: there is no such port any more.
    """
    if not address:
        return ""
    port = split_address(address)[1] + 1 + process
    if port > _PORT_MAX:
        raise ConfigurationError(
            f"no port is left for the metrics of process {process}: set HEADWATER_METRICS_ADDRESS"
            f" to a port below {_PORT_MAX - process}"
        )
    return f"127.0.0.1:{port}"


def show_gathered(
    address: str, processes: int, timeout_seconds: float = _ASK_TIMEOUT_SECONDS
) -> Callable[[], None]:
    """Show the metrics of all processes at ``address``, from a thread; calling the result ends it.

    Args:
        address: ``host:port``.
        processes: how many there are; each shows its own at ``process_address``.
        timeout_seconds: how long a process may take to answer; then it counts as down.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    sources = [process_address(address, process) for process in range(processes)]
    registry = CollectorRegistry()
    gathered = GatheredMetrics(sources, timeout_seconds)
    registry.register(gathered)
    host, port = split_address(address)
    try:
        end = show_metrics(registry, host, port)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {address}: set HEADWATER_METRICS_ADDRESS to a free one"
        ) from error

    def close() -> None:
        end()
        gathered.close()

    return close


class GatheredMetrics(Collector):
    """What the pages of some processes show, put together at each look."""

    def __init__(self, addresses: Sequence[str], timeout_seconds: float) -> None:
        """``addresses`` (``host:port``) in the order of the processes' numbers."""
        self._addresses = addresses
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(
            min(len(addresses), _ASKED_AT_ONCE_MAX), thread_name_prefix="metrics"
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: what the processes show is not known before they are asked."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All samples of all processes that answer, and which do."""
        # Scrapes that overlap wait for each other: the processes have better things to do.
        with self._lock:
            pages = list(self._threads.map(self._ask, self._addresses))
        up = GaugeMetricFamily(
            names.PROCESS_UP, "Whether a process showed its metrics.", labels=[LABEL]
        )
        families: dict[str, Metric] = {}
        for process, page in enumerate(pages):
            up.add_metric([str(process)], float(page is not None))
            for family in text_string_to_metric_families(page or ""):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, LABEL: str(process)}
                    merged.add_sample(sample.name, labels, sample.value)
        return [up, *families.values()]

    def close(self) -> None:
        """End the threads that ask."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _ask(self, address: str) -> str | None:
        """The page of a process; None if it does not show one in time."""
        try:
            with _direct.open(f"http://{address}/metrics", timeout=self._timeout_seconds) as page:
                return str(page.read(_PAGE_BYTES_MAX), "utf-8")
        except (OSError, HTTPException, ValueError):
            return None
