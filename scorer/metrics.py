"""The scorer's Prometheus metrics, in a registry of their own."""

from __future__ import annotations

import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from contracts import metric_names as names
from scorer.vector import Missing
from scorer.vector_plan import VectorPlan

# From a fraction of a read to a slow second.
_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384)


class ScorerMetrics:
    """All metrics of one server; two servers in one process do not share them."""

    def __init__(self) -> None:
        """Register everything; nothing is shown to anyone before ``serve``."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            names.REQUESTS,
            "Requests finished.",
            ["grpc_method", "grpc_code"],
            registry=self.registry,
        )
        self.request_seconds = self._seconds(
            names.REQUEST_SECONDS, "From a request's arrival to its answer.", "grpc_method"
        )
        self.in_flight = Gauge(
            names.IN_FLIGHT, "Requests accepted and not answered yet.", registry=self.registry
        )
        self.batch_rows = Histogram(
            names.BATCH_ROWS,
            "Rows scored in one run of a model.",
            ["model"],
            buckets=_ROWS,
            registry=self.registry,
        )
        self.missing_features = Counter(
            names.MISSING_FEATURES,
            "Stored values that were missing, so that the default stood in.",
            ["model", "view"],
            registry=self.registry,
        )
        self.feature_read_seconds = self._seconds(
            names.FEATURE_READ_SECONDS, "One read of the online store."
        )
        self.swaps = Counter(
            names.SWAPS,
            "Attempts to put a new model version into service.",
            ["model", "result"],
            registry=self.registry,
        )
        self.swap_seconds = self._seconds(
            names.SWAP_SECONDS, "From finding a new version to serving it.", "model"
        )
        self.predictions_written = Counter(
            names.PREDICTIONS_WRITTEN,
            "Scored requests that are in the prediction log.",
            registry=self.registry,
        )
        self.predictions_dropped = Counter(
            names.PREDICTIONS_DROPPED,
            "Scored requests that are not in the prediction log.",
            ["reason"],
            registry=self.registry,
        )
        self.predictions_waiting = Gauge(
            names.PREDICTIONS_WAITING,
            "Scored requests that wait to be written.",
            registry=self.registry,
        )

    def handled(self, method: str, code: str, seconds: float) -> None:
        """Count a finished call of ``service/method``."""
        name = method.rpartition("/")[2]
        self.requests.labels(name, code).inc()
        self.request_seconds.labels(name).observe(seconds)

    def batch(self, requests: int, in_flight: int) -> None:
        """A batch of so many requests is answered; so many are left."""
        self.in_flight.set(in_flight)

    def ran(self, model: str, rows: int) -> None:
        """A model ran on so many rows."""
        self.batch_rows.labels(model).observe(rows)

    def missing(self, model: str, plan: VectorPlan, places: tuple[Missing, ...]) -> None:
        """Defaults stood in at these places of a row."""
        for position, _ in places:
            view = plan.schema.fields[position].view
            if view:
                self.missing_features.labels(model, view).inc()

    def swapped(self, model: str, result: str, seconds: float) -> None:
        """Count an attempt to swap; ``result`` is ``swapped`` or ``refused``."""
        self.swaps.labels(model, result).inc()
        if result == "swapped":
            self.swap_seconds.labels(model).observe(seconds)

    def serve(self, host: str, port: int) -> tuple[WSGIServer, threading.Thread]:
        """Show them over HTTP from a thread, until ``shutdown`` of the returned server.

        Raises:
            OSError: the address cannot be listened on.
        """
        return start_http_server(port, host, registry=self.registry)

    def _seconds(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=_SECONDS, registry=self.registry)
