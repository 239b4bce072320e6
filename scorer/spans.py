"""Calls as OpenTelemetry spans, sent over OTLP; needs the extra ``headwater[traces]``."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence

import grpc
import structlog
from opentelemetry import trace
from opentelemetry.context import Context as SpanParent
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from scorer.calls import Call, Context

# Calls of some tenths of a second at full speed; a span takes about two kilobytes.
SPANS_WAITING_MAX = 4_096
# Encoding holds the interpreter: many small bites disturb calls less than a few large ones.
_SPANS_PER_EXPORT = 128
_EXPORT_EVERY_MS = 500
_EXPORT_TIMEOUT_SECONDS = 2.0
_LAST_TRY_SECONDS = 0.5
# Names come from callers; a trace is no place for megabytes of them.
_TEXT_MAX = 128
_SCOPE = "headwater.scorer"
_HEADERS = frozenset({"traceparent", "tracestate"})
# What counts as the server's fault (semantic conventions for gRPC); the rest is the caller's.
_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_propagator = TraceContextTextMapPropagator()
_log = structlog.get_logger()

Dropped = Callable[[str, int], None]


class SpanTraces:
    """One span for each call that is traced, and children for its read and its run.

    A caller that sends ``traceparent`` decides for its trace, by the sampled flag. Of the others
    a share is traced. Spans hold no inputs, no features and no tokens.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        share: float,
        dropped: Dropped,
        *,
        waiting_max: int = SPANS_WAITING_MAX,
        clock_ns: Callable[[], int] = time.time_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``share`` is from 0 to 1; ``chance`` gives numbers from 0 to below 1."""
        self._share = share
        self._clock_ns = clock_ns
        self._chance = chance
        self._exporter = _CountingExporter(exporter, dropped)
        self._queue = _BoundedQueue(self._exporter, waiting_max, dropped)
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=_resource(), shutdown_on_exit=False
        )
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer(_SCOPE)
        # By the call's identity: calls have no hash, and each lives until it has ended.
        self._open: dict[int, tuple[trace.Span, int]] = {}

    def begun(self, call: Call, context: Context) -> None:
        """Begin a span, if this call is to be traced."""
        headers = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if key in _HEADERS and isinstance(value, str)
        }
        parent = SpanParent()
        if headers:
            parent = _propagator.extract(headers, parent)
        remote = trace.get_current_span(parent).get_span_context()
        if not (remote.trace_flags.sampled if remote.is_valid else self._chance() < self._share):
            return
        # What is known of a call is measured by another clock; this is what to add to its times.
        ahead_ns = self._clock_ns() - time.perf_counter_ns()
        span = self._tracer.start_span(
            call.method,
            parent,
            trace.SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": call.method},
            start_time=_ns(call.started) + ahead_ns,
        )
        self._open[id(call)] = (span, ahead_ns)

    def ended(self, call: Call) -> None:
        """End the span, if there is one, and tell what the call came to."""
        begun = self._open.pop(id(call), None)
        if begun is None:
            return
        span, ahead_ns = begun
        span.set_attributes(
            {
                "rpc.response.status_code": call.code.name,
                "headwater.request_id": call.request_id[:_TEXT_MAX],
                "headwater.model": call.model[:_TEXT_MAX],
                "headwater.version": call.version[:_TEXT_MAX],
                "headwater.rows": call.rows,
                "headwater.missing": call.missing,
            }
        )
        if call.code is not grpc.StatusCode.OK:
            span.set_attribute("error.type", call.code.name)
        if call.code in _FAULTS:
            span.set_status(trace.StatusCode.ERROR)
        inside = trace.set_span_in_context(span, SpanParent())
        for name, times in (("read features", call.read_at), ("run model", call.run_at)):
            if times is not None:
                began, ended = times
                part = self._tracer.start_span(name, inside, start_time=_ns(began) + ahead_ns)
                part.end(_ns(ended) + ahead_ns)
        span.end(_ns(call.started + call.seconds) + ahead_ns)

    async def stop(self, timeout_seconds: float) -> None:
        """Send what is left, no longer than that, and count what could not be sent."""
        await asyncio.to_thread(self._stop, timeout_seconds)

    def _stop(self, timeout_seconds: float) -> None:
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(timeout_seconds)
        if thread.is_alive():
            # Ends the attempt that is under way; those behind it then fail at once.
            self._exporter.shutdown()
            thread.join(_LAST_TRY_SECONDS)
        self._queue.give_up()


class _CountingExporter(SpanExporter):
    """Counts what goes through and what is lost; says once that it fails, and once that it ends.

    ``taken`` is changed by the exporting thread alone.
    """

    def __init__(self, inner: SpanExporter, dropped: Dropped) -> None:
        self._inner = inner
        self._dropped = dropped
        self._failing = False
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._inner.export(spans)
        except Exception:  # noqa: BLE001 - traces must never end the thread that sends them
            result = SpanExportResult.FAILURE
        failed = result is not SpanExportResult.SUCCESS
        if failed:
            self._dropped("collector", len(spans))
        if failed and not self._failing:
            _log.warning("traces_failed", hint="look at the collector; spans are dropped")
        elif self._failing and not failed:
            _log.info("traces_back")
        self._failing = failed
        self.taken += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class _BoundedQueue(SpanProcessor):
    """A batch processor that counts what it has no room for; spans end in the loop's thread."""

    def __init__(self, exporter: _CountingExporter, waiting_max: int, dropped: Dropped) -> None:
        self._exporter = exporter
        self._waiting_max = waiting_max
        self._dropped = dropped
        self._put = 0
        self._batches = BatchSpanProcessor(
            exporter,
            max_queue_size=waiting_max,
            schedule_delay_millis=_EXPORT_EVERY_MS,
            max_export_batch_size=min(_SPANS_PER_EXPORT, waiting_max),
        )

    def on_end(self, span: ReadableSpan) -> None:
        if self._put - self._exporter.taken >= self._waiting_max:
            self._dropped("full", 1)
            return
        self._put += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def give_up(self) -> None:
        if left := self._put - self._exporter.taken:
            self._dropped("stopped", left)


def plain_exporter(address: str) -> SpanExporter:
    """To a collector (``host:port``) without TLS."""
    _quieten()
    return OTLPSpanExporter(f"http://{address}", insecure=True, timeout=_EXPORT_TIMEOUT_SECONDS)


def secure_exporter(address: str) -> SpanExporter:
    """To a collector (``host:port``) with TLS, by the system's certificates unless told others."""
    _quieten()
    return OTLPSpanExporter(f"https://{address}", timeout=_EXPORT_TIMEOUT_SECONDS)


def _quieten() -> None:
    """OpenTelemetry's own lines are no JSON, and come again and again: ours say it once."""
    log = logging.getLogger("opentelemetry")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    log.propagate = False


def _resource() -> Resource:
    """Who sends the spans; ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` go before."""
    ours = Resource.create(
        {
            "service.name": "headwater-scorer",
            "service.instance.id": uuid.uuid4().hex,
            "process.pid": os.getpid(),
        }
    )
    return ours.merge(OTELResourceDetector().detect())


def _ns(at_seconds: float) -> int:
    return round(at_seconds * 1e9)
