"""The scorer's Prometheus metrics, in a registry of their own.

What is told for each request finds its series in a dictionary: asking the library for it by its
labels takes longer than to count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from google.protobuf import descriptor_pool
from prometheus_client import CollectorRegistry, Counter, Gauge

from contracts import metric_names as names
from scorer.metrics_server import show_metrics
from scorer.process_metrics import Models, register_models, register_process
from scorer.tally import Series, Sums, Tally
from scorer.vector import Missing, MissingReason
from scorer.vector_plan import VectorPlan

# From a fraction of a read to a slow second.
_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
_LAG_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
# From an event a moment ago to a row of last month.
_AGE_SECONDS = (0.1, 1, 10, 60, 300, 900, 3_600, 14_400, 86_400, 604_800, 2_592_000)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1_024, 4_096, 16_384)
_REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
_SAMPLES = (0, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536)
_METHOD = ("grpc_service", "grpc_method")


class ScorerMetrics:
    """All metrics of one server; two servers in one process do not share them.

    Methods are for the event loop, unless they say otherwise.
    """

    def __init__(self) -> None:
        """Register everything; nothing is shown to anyone before ``serve``."""
        self.registry = CollectorRegistry()
        self._declare_calls()
        self._declare_scoring()
        self._declare_background()
        register_process(self.registry)
        self._of_call: dict[tuple[str, str], tuple[Counter, Series]] = {}
        self._of_stream: dict[tuple[str, str], tuple[Counter, Series]] = {}
        self._of_missing: dict[tuple[str, str, int], Counter] = {}
        self._of_age: dict[str, tuple[Series, Series]] = {}
        self._of_run: dict[str, Series] = {}

    def handled(self, method: str, code: str, seconds: float) -> None:
        """Count a finished call of ``service/method``; a stream is one call."""
        found = self._of_call.get((method, code))
        if found is None:
            service, _, name = method.partition("/")
            labels = (_type_of(service, name), service, name)
            found = (self._requests.labels(*labels, code), self._request_seconds.labels(*labels))
            self._of_call[method, code] = found
        found[0].inc()
        found[1].observe(seconds)

    def answered_in_stream(self, method: str, code: str, seconds: float) -> None:
        """Count an answered request of a stream of ``service/method``."""
        found = self._of_stream.get((method, code))
        if found is None:
            service, _, name = method.partition("/")
            found = (
                self._stream_requests.labels(service, name, code),
                self._stream_request_seconds.labels(service, name),
            )
            self._of_stream[method, code] = found
        found[0].inc()
        found[1].observe(seconds)

    def token_refused(self, reason: str) -> None:
        """Count a call that was turned away because of its token."""
        self._tokens_refused.labels(reason).inc()

    def batch(self, requests: int) -> None:
        """Count a batch of so many requests."""
        self._batch_requests.observe(requests)

    def ran(self, model: str, rows: int) -> None:
        """Count a run of a model on so many rows."""
        found = self._of_run.get(model)
        if found is None:
            found = self._of_run[model] = self._batch_rows.labels(model)
        found.observe(rows)

    def answered(self, model: str, channel: str, rows: int) -> None:
        """Count rows answered by a channel's version."""
        self._rows.add((model, channel), rows)

    def fell_back(self, model: str, rows: int) -> None:
        """Count rows that the champion answered in the challenger's place."""
        self._fallback_rows.labels(model).inc(rows)

    def shadowed(self, model: str, channel: str, rows: int) -> None:
        """Count rows scored beside an answer."""
        self._shadow_rows.labels(model, channel).inc(rows)

    def shadow_dropped(self, model: str, reason: str, rows: int) -> None:
        """Count rows that were to be scored beside an answer, and were not."""
        self._shadow_rows_dropped.labels(model, reason).inc(rows)

    def missing(self, model: str, plan: VectorPlan, rows: Iterable[tuple[Missing, ...]]) -> None:
        """Count the places of a request's rows where defaults stood in."""
        counts: dict[int, int] = {}
        for row in rows:
            for position, reason in row:
                # Whole numbers count faster than pairs, and a request may miss thousands of values.
                place = 8 * position + reason
                counts[place] = counts.get(place, 0) + 1
        fields = plan.schema.fields
        for place, count in counts.items():
            key = (model, fields[place >> 3].view, place & 7)
            found = self._of_missing.get(key)
            if found is None:
                reason = MissingReason(place & 7)
                found = self._missing_features.labels(model, key[1], reason.name.lower())
                self._of_missing[key] = found
            found.inc(count)

    def aged(self, model: str, oldest_seconds: float, newest_seconds: float) -> None:
        """Tell how old the oldest and the newest stored row were that a request used."""
        found = self._of_age.get(model)
        if found is None:
            found = self._of_age[model] = (
                self._feature_age.labels(model, "oldest"),
                self._feature_age.labels(model, "newest"),
            )
        # A row newer than the moment of prediction is as fresh as can be.
        found[0].observe(max(0.0, oldest_seconds))
        found[1].observe(max(0.0, newest_seconds))

    def explained(self, model: str, samples: int) -> None:
        """Count an explanation and the orders that it sampled."""
        self._explain_samples.labels(model).observe(samples)

    def swapped(self, model: str, result: str, seconds: float) -> None:
        """Count an attempt to swap; ``result`` is ``swapped`` or ``refused``."""
        self._swaps.labels(model, result).inc()
        if result == "swapped":
            self._swap_seconds.labels(model).observe(seconds)

    def show_models(self, models: Models) -> None:
        """Show which versions serve; ``models`` is asked at each look, from another thread."""
        register_models(self.registry, models)

    def log_line_left_out(self, reason: str) -> None:
        """Count a line that is not in the log; from any thread."""
        self._log_lines_left_out.labels(reason).inc()

    def spans_dropped(self, reason: str, count: int) -> None:
        """Count spans that did not reach the collector; from any thread."""
        self._spans_dropped.labels(reason).inc(count)

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Show them over HTTP from a thread; calling the result ends it.

        Raises:
            OSError: the address cannot be listened on.
        """
        return show_metrics(self.registry, host, port)

    def _declare_calls(self) -> None:
        self._requests = self._counter(
            names.REQUESTS, "Calls finished.", "grpc_type", *_METHOD, "grpc_code"
        )
        self._request_seconds = self._histogram(
            names.REQUEST_SECONDS, "From a call's arrival to its end.", "grpc_type", *_METHOD
        )
        self._stream_requests = self._counter(
            names.STREAM_REQUESTS, "Requests of streams answered.", *_METHOD, "grpc_code"
        )
        self._stream_request_seconds = self._histogram(
            names.STREAM_REQUEST_SECONDS, "From a request in a stream to its answer.", *_METHOD
        )
        self._tokens_refused = self._counter(
            names.TOKENS_REFUSED, "Calls turned away because of their token.", "reason"
        )

    def _declare_scoring(self) -> None:
        self.in_flight = Gauge(
            names.IN_FLIGHT, "Requests accepted and not answered yet.", registry=self.registry
        )
        self._batch_requests = self._histogram(
            names.BATCH_REQUESTS, "Requests that shared one read.", buckets=_REQUESTS
        )
        self._batch_rows = self._histogram(
            names.BATCH_ROWS, "Rows scored in one run of a model.", "model", buckets=_ROWS
        )
        self._missing_features = self._counter(
            names.MISSING_FEATURES,
            "Values for which the default stood in.",
            *("model", "view", "reason"),
        )
        self._feature_age = self._histogram(
            names.FEATURE_AGE,
            "Age of the stored rows that a request used.",
            *("model", "row"),
            buckets=_AGE_SECONDS,
        )
        self.feature_read_seconds = self._histogram(
            names.FEATURE_READ_SECONDS, "One read of the online store."
        )
        self._explain_samples = self._histogram(
            names.EXPLAIN_SAMPLES,
            "Orders of fields that one explanation sampled.",
            "model",
            buckets=_SAMPLES,
        )

    def _declare_background(self) -> None:
        self._rows = Sums(
            names.ROWS,
            "Rows answered, by whose version answered.",
            ("model", "channel"),
            self.registry,
        )
        self._fallback_rows = self._counter(
            names.FALLBACK_ROWS, "Rows answered in the challenger's place.", "model"
        )
        self._shadow_rows = self._counter(
            names.SHADOW_ROWS, "Rows scored beside an answer.", "model", "channel"
        )
        self._shadow_rows_dropped = self._counter(
            names.SHADOW_ROWS_DROPPED, "Rows not scored beside an answer.", "model", "reason"
        )
        self._swaps = self._counter(
            names.SWAPS, "Attempts to put a new model version into service.", "model", "result"
        )
        self._swap_seconds = self._histogram(
            names.SWAP_SECONDS, "From finding a new version to serving it.", "model"
        )
        self.predictions_written = self._counter(
            names.PREDICTIONS_WRITTEN, "Scored requests that are in the prediction log."
        )
        self.predictions_dropped = self._counter(
            names.PREDICTIONS_DROPPED, "Scored requests that are not in the log.", "reason"
        )
        self.predictions_waiting = Gauge(
            names.PREDICTIONS_WAITING,
            "Scored requests that wait to be written.",
            registry=self.registry,
        )
        self._log_lines_left_out = self._counter(
            names.LOG_LINES_LEFT_OUT, "Requests without the line that was theirs.", "reason"
        )
        self._spans_dropped = self._counter(
            names.SPANS_DROPPED, "Spans that did not reach the collector.", "reason"
        )
        self.loop_lag_seconds = self._histogram(
            names.LOOP_LAG, "How late the loop comes to what is due.", buckets=_LAG_SECONDS
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS
    ) -> Tally:
        return Tally(name, text, labels, buckets, self.registry)


def _type_of(service: str, method: str) -> str:
    """As gRPC's middleware calls it; methods whose protos we do not know are unary."""
    try:
        found = descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
    except KeyError:
        return "unary"
    return {
        (False, False): "unary",
        (True, False): "client_stream",
        (False, True): "server_stream",
        (True, True): "bidi_stream",
    }[found.client_streaming, found.server_streaming]
