"""Traces: what a collector gets to see of a call, and what becomes of spans it does not take."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent import futures
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as export_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as export_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from contracts.scorer_settings import ScorerSettings
from scorer.calls import Call
from scorer.client import ScoreOptions
from scorer.errors import ConfigurationError, InvalidRequestError, StoreUnavailableError
from scorer.spans import SpanTraces, plain_exporter
from scorer.traces import open_traces
from scorer.v1 import scorer_pb2
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop
from tests.scorer.small_server import METHOD, Score, small_server, until

ROOT = Path(__file__).resolve().parents[2]
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-01"
NOT_SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-00"


class Collector(export_grpc.TraceServiceServicer):
    """A collector that keeps what it gets; it may be told to refuse, or to take its time."""

    def __init__(self) -> None:
        self.requests: list[export_pb2.ExportTraceServiceRequest] = []
        self.refuse = False
        self.go_on = threading.Event()
        self.go_on.set()

    def Export(  # noqa: N802 - gRPC names it
        self, request: export_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> export_pb2.ExportTraceServiceResponse:
        """Keep the request."""
        self.go_on.wait(30)
        if self.refuse:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
        self.requests.append(request)
        return export_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[trace_pb2.Span]:
        """All spans, by when they began."""
        found = [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    """A collector and its address."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    export_grpc.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        collector, server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"127.0.0.1:{port}"
    finally:
        collector.go_on.set()
        await asyncio.to_thread(server.stop(None).wait, 10)


async def work(request: scorer_pb2.ScoreRequest, call: Call) -> scorer_pb2.ScoreResponse:
    """A read and a run, then the outcome that the model's name says."""
    call.model, call.version, call.request_id = request.model, "7", request.request_id
    call.rows, call.missing = len(request.rows), 1
    now = time.perf_counter()
    call.read_at, call.run_at = (call.started, now), (now, now + 0.001)
    if request.model == "bad":
        raise InvalidRequestError("rows[0]: input 'card' is a-secret-card")
    if request.model == "gone":
        raise StoreUnavailableError("the online store did not answer")
    return scorer_pb2.ScoreResponse()


def request_for(model: str) -> scorer_pb2.ScoreRequest:
    """A request with a row whose value must never be seen in a trace."""
    row = scorer_pb2.Row(inputs={"card": scorer_pb2.Value(string_value="a-secret-card")})
    return scorer_pb2.ScoreRequest(model=model, rows=[row], request_id="r-1")


def nothing_lost(reason: str, count: int) -> None:
    """Where all spans are to arrive."""
    raise AssertionError(f"{count} spans lost: {reason}")


def traced(
    share: float,
    calls: Callable[[Score], object],
    chance: Callable[[], float] = lambda: 0.5,
) -> Collector:
    """What a collector has after those calls and a stop."""

    async def run() -> Collector:
        async with collecting() as (collector, address):
            traces = SpanTraces(plain_exporter(address), share, nothing_lost, chance=chance)
            async with small_server(work, traces) as score:
                await calls(score)  # type: ignore[misc]
            await traces.stop(10)
            return collector

    return asyncio.run(run())


def attributes(span: trace_pb2.Span) -> dict[str, object]:
    """Name -> value."""
    return {
        one.key: one.value.int_value
        if one.value.WhichOneof("value") == "int_value"
        else one.value.string_value
        for one in span.attributes
    }


def test_a_call_is_a_child_of_the_callers_span() -> None:
    """Trace id and parent come from ``traceparent``; the read and the run lie inside the call."""

    async def calls(score: Score) -> None:
        await score(request_for("fraud"), metadata=[("traceparent", SAMPLED)])

    collector = traced(0.0, calls)
    spans = {span.name: span for span in collector.spans()}
    assert spans.keys() == {METHOD, "read features", "run model"}
    call = spans[METHOD]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE_ID}
    assert call.parent_span_id.hex() == PARENT_ID
    assert call.kind == trace_pb2.Span.SPAN_KIND_SERVER
    assert attributes(call) == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
        "headwater.request_id": "r-1",
        "headwater.model": "fraud",
        "headwater.version": "7",
        "headwater.rows": 1,
        "headwater.missing": 1,
    }
    for name in ("read features", "run model"):
        assert spans[name].parent_span_id == call.span_id
        assert spans[name].end_time_unix_nano >= spans[name].start_time_unix_nano
    assert spans["read features"].start_time_unix_nano == call.start_time_unix_nano
    assert abs(call.start_time_unix_nano - time.time_ns()) < 60e9
    resource = collector.requests[0].resource_spans[0].resource
    named = {one.key: one.value.string_value for one in resource.attributes}
    assert named["service.name"] == "headwater-scorer"
    assert "secret" not in str(collector.requests)


def test_the_callers_decision_goes_before_the_share() -> None:
    """A trace that its caller does not record is not recorded here, whatever the share."""

    async def calls(score: Score) -> None:
        await score(request_for("fraud"), metadata=[("traceparent", NOT_SAMPLED)])

    assert traced(1.0, calls).spans() == []


@pytest.mark.parametrize("header", ["", "00-0-0-01", f"ff-{TRACE_ID}-{PARENT_ID}-01", "x" * 5000])
def test_without_a_good_parent_the_share_decides(header: str) -> None:
    """A call without a trace, or with a broken header, is the root of one of its own."""

    async def calls(score: Score) -> None:
        for _ in range(4):
            await score(request_for("fraud"), metadata=[("traceparent", header)] * bool(header))

    chances = iter([0.2, 0.3, 0.0, 0.9])
    spans = traced(0.3, calls, lambda: next(chances)).spans()
    roots = [span for span in spans if span.name == METHOD]
    assert len(roots) == 2
    assert {span.parent_span_id for span in roots} == {b""}
    assert len({span.trace_id for span in roots} - {bytes.fromhex(TRACE_ID)}) == 2


def test_only_faults_of_the_server_are_errors() -> None:
    """Each failure has its code; the span is an error where the server failed, not the caller."""

    async def calls(score: Score) -> None:
        for model in ("bad", "gone"):
            with pytest.raises(grpc.aio.AioRpcError):
                await score(request_for(model))

    collector = traced(1.0, calls)
    spans = [span for span in collector.spans() if span.name == METHOD]
    told = [(attributes(span)["error.type"], span.status.code) for span in spans]
    assert told == [
        ("INVALID_ARGUMENT", trace_pb2.Status.STATUS_CODE_UNSET),
        ("UNAVAILABLE", trace_pb2.Status.STATUS_CODE_ERROR),
    ]
    assert "secret" not in str(collector.requests)


def test_a_scorer_is_traced_by_its_settings(scorer_shop: Shop) -> None:
    """With the endpoint set, a score is traced with its read and its run, in this order."""

    async def run() -> Collector:
        async with collecting() as (collector, address):
            given = {"traces_endpoint": f"http://{address}", "traces_share": 1.0}
            async with scorer_shop.client(**given) as client:
                await client.score(MODEL, [ROW, ROW], ScoreOptions(event_time_us=NOON_US))
            return collector

    spans = asyncio.run(run()).spans()
    assert [span.name for span in spans] == [METHOD, "read features", "run model"]
    assert attributes(spans[0])["headwater.rows"] == 2
    assert spans[1].end_time_unix_nano <= spans[2].start_time_unix_nano
    assert spans[2].end_time_unix_nano <= spans[0].end_time_unix_nano


def test_spans_wait_in_bounded_memory() -> None:
    """While the collector hangs, no more spans wait than the limit; the rest is counted."""
    dropped = Counter[str]()

    async def run() -> int:
        async with collecting() as (collector, address):
            collector.go_on.clear()
            traces = SpanTraces(
                plain_exporter(address),
                1.0,
                lambda reason, count: dropped.update({reason: count}),
                waiting_max=6,
            )
            async with small_server(work, traces) as score:
                for _ in range(5):
                    await score(request_for("fraud"))
            collector.go_on.set()
            await traces.stop(10)
            return len(collector.spans())

    assert asyncio.run(run()) == 6
    assert dropped == {"full": 9}


def test_what_the_collector_refuses_is_counted() -> None:
    """Spans that the collector does not take are lost, and counted; calls are not disturbed."""
    dropped = Counter[str]()

    async def run() -> None:
        async with collecting() as (collector, address):
            collector.refuse = True
            traces = SpanTraces(
                plain_exporter(address),
                1.0,
                lambda reason, count: dropped.update({reason: count}),
            )
            async with small_server(work, traces) as score:
                await score(request_for("fraud"))
                await until(lambda: dropped.total() > 0, "the loss is counted")
                collector.refuse = False
                await score(request_for("fraud"))
            await traces.stop(10)
            assert len(collector.spans()) == 3

    asyncio.run(run())
    assert dropped == {"collector": 3}


class Hanging(SpanExporter):
    """Takes spans and gives nothing back until it is told to stop."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait."""
        self.stopped.wait(60)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Wait no more."""
        self.stopped.set()


def test_a_stop_does_not_wait_for_a_collector_that_hangs() -> None:
    """When its time is up a stop ends the attempt to send, and counts the spans as lost."""
    dropped = Counter[str]()

    async def run() -> None:
        traces = SpanTraces(Hanging(), 1.0, lambda reason, count: dropped.update({reason: count}))
        async with small_server(work, traces) as score:
            await score(request_for("fraud"))
        await asyncio.wait_for(traces.stop(0.05), 20)

    asyncio.run(run())
    assert dropped == {"collector": 3}


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://user:hidden@collector:4317", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://collector:99999", "port"),
    ],
)
def test_an_endpoint_that_cannot_be_is_told(tmp_path: Path, endpoint: str, reason: str) -> None:
    """A wrong endpoint ends the start with one line that says what to change, and no secret."""
    settings = ScorerSettings.for_repo(tmp_path, traces_endpoint=endpoint)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        open_traces(settings, nothing_lost)
    assert "hidden" not in str(caught.value)
    assert "HEADWATER_TRACES_ENDPOINT" in str(caught.value)


def test_no_endpoint_is_no_traces(tmp_path: Path) -> None:
    """Without the setting there is nothing to send traces."""
    assert open_traces(ScorerSettings.for_repo(tmp_path), nothing_lost) is None


def test_the_extra_is_asked_for_only_where_it_is_needed(tmp_path: Path) -> None:
    """Without OpenTelemetry the scorer loads, and the setting says which extra to install."""
    code = f"""
import sys
sys.modules["opentelemetry.sdk"] = None
from pathlib import Path
from contracts.scorer_settings import ScorerSettings
import scorer.server, scorer.traces
assert not [name for name in sys.modules if name.startswith("opentelemetry.exporter")]
settings = ScorerSettings.for_repo(Path({str(tmp_path)!r}), traces_endpoint="http://127.0.0.1")
try:
    scorer.traces.open_traces(settings, print)
except scorer.traces.ConfigurationError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "pip install '.[traces]' in the repository" in done.stdout
    assert len(done.stdout.splitlines()) == 1
