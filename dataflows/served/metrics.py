"""The evaluator's Prometheus endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts import metric_names as names
from contracts.settings import split_address
from dataflows.served.evaluator import Evaluator
from dataflows.served.model import ServedModel
from dataflows.served.state import EvaluatorError


class EvaluatorCollector(Collector):
    """Reads counts of a running evaluator at every scrape; each is a number that only grows."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def describe(self) -> list[Metric]:
        """Nothing in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Counts of records, rows, labels and decisions, and figures of the versions."""
        counts = self._evaluator.records
        bad = {
            "broken": counts.broken,
            "repeated": counts.repeated,
            "unknown": counts.unknown,
        }
        records = _counter(names.EVALUATOR_RECORDS, "Records of the prediction log.", ["result"])
        for result, count in {"used": counts.records - sum(bad.values()), **bad}.items():
            records.add_metric([result], count)
        yield records
        yield from _of_models(dict(self._evaluator.models))
        made = _counter(names.EVALUATOR_DECISIONS, "Decisions made.", ["model", "action"])
        for key, count in dict(self._evaluator.decisions.made).items():
            made.add_metric(list(key), count)
        yield made
        gauge = GaugeMetricFamily(
            names.SERVED_METRIC,
            "A figure of what was served.",
            labels=["model", "version", "metric"],
        )
        for sample in self._evaluator.figures:
            gauge.add_metric(list(sample[:3]), sample[3])
        yield gauge


def _of_models(models: dict[str, ServedModel]) -> Iterator[Metric]:
    rows = _counter(names.EVALUATOR_ROWS, "Served rows.", ["model", "result"])
    labels = _counter(names.EVALUATOR_LABELS, "Labels.", ["model", "result"])
    waiting = GaugeMetricFamily(names.EVALUATOR_WAITING, "Rows that wait.", labels=["model"])
    step = GaugeMetricFamily(names.EVALUATOR_STEP, "Step of the rollout.", labels=["model"])
    for name, served in models.items():
        joined = served.joined
        for result, count in (
            ("joined", joined.joined),
            ("unlabelled", joined.unlabelled),
            ("dropped", joined.dropped_rows),
            ("other_schema", served.counts.other_schema),
            ("without_key", served.counts.without_key),
        ):
            rows.add_metric([name, result], count)
        unused = {
            "ignored": joined.ignored_labels,
            "repeated": joined.repeated_labels,
            "unmatched": joined.unmatched_labels,
            "dropped": joined.dropped_labels,
        }
        used = max(joined.labels - sum(unused.values()), 0)
        for result, count in {"used": used, **unused}.items():
            labels.add_metric([name, result], count)
        waiting.add_metric([name], served.waiting)
        number = served.policy.step if served.policy is not None else None
        step.add_metric([name], 0 if number is None else number + 1)
    yield from (rows, labels, waiting, step)


@contextmanager
def evaluator_endpoint(address: str, evaluator: Evaluator) -> Iterator[None]:
    """Show the metrics on ``host:port`` as long as the context; nothing if ``address`` is empty.

    Raises:
        EvaluatorError: the address cannot be listened on.
    """
    if not address:
        yield
        return
    registry = CollectorRegistry()
    registry.register(EvaluatorCollector(evaluator))
    host, port = split_address(address)
    try:
        server, thread = start_http_server(port, host, registry=registry)
    except OSError as error:
        raise EvaluatorError(
            f"cannot listen on {address}: {error.strerror}; set HEADWATER_METRICS_ADDRESS to a "
            "free one"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _counter(name: str, text: str, labels: list[str]) -> CounterMetricFamily:
    # The library adds the suffix itself.
    return CounterMetricFamily(name.removesuffix("_total"), text, labels=labels)
