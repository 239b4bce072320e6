"""Metrics: what a scrape shows of calls, features, versions, the loop, and of several processes."""

from __future__ import annotations

import asyncio
import re
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from contracts import metric_names
from scorer.client import (
    AsyncScorerClient,
    NotFoundError,
    ScoreItem,
    ScoreOptions,
    ScorerCallError,
)
from scorer.errors import ConfigurationError
from scorer.metrics import ScorerMetrics
from scorer.metrics_gathering import process_address, show_gathered
from scorer.process_metrics import LoopLag
from scorer.tally import Tally
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop, feast_key

ROOT = Path(__file__).resolve().parents[2]
AT_NOON = ScoreOptions(event_time_us=NOON_US)
SCORE = {"grpc_service": "scorer.v1.ScorerService", "grpc_method": "Score"}
STREAM = {"grpc_service": "scorer.v1.ScorerService", "grpc_method": "ScoreStream"}


class Page:
    """What one scrape shows."""

    def __init__(self, address: str) -> None:
        """Scrape now."""
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
            text = str(page.read(), "utf-8")
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def labels(self, name: str) -> list[dict[str, str]]:
        """Labels of each sample of that name."""
        return [sample.labels for sample in self.samples if sample.name == name]

    def total(self, name: str, labels: Mapping[str, str] | None = None, **more: str) -> float:
        """Sum of all samples that have these labels, and perhaps others."""
        wanted = {**(labels or {}), **more}.items()
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and wanted <= sample.labels.items()
        )


@contextmanager
def free_ports(count: int) -> Iterator[int]:
    """The first of so many ports in a row that nobody listens on."""
    for _ in range(100):
        with ExitStack() as stack, socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for number in range(1, count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + number))
            except (OSError, OverflowError):
                continue
        yield port
        return
    raise AssertionError(f"no {count} free ports in a row")


@asynccontextmanager
async def scraped(shop: Shop, **given: object) -> AsyncIterator[tuple[AsyncScorerClient, str]]:
    """A client of a running scorer, and where its metrics are."""
    with free_ports(1) as port:
        address = f"127.0.0.1:{port}"
        async with shop.client(metrics_address=address, **given) as client:
            yield client, address


async def page_with(address: str, name: str, value: float, **labels: str) -> Page:
    """The page as soon as it shows that value: a call is counted after its answer has gone."""
    async with asyncio.timeout(30):
        while True:
            page = await asyncio.to_thread(Page, address)
            if page.total(name, labels) == value:
                return page


def test_calls_are_counted_by_type_and_code(scorer_shop: Shop) -> None:
    """Calls count by service, method, type and code, with the time that they took."""

    async def run() -> Page:
        async with scraped(scorer_shop) as (client, address):
            await client.score(MODEL, ROW, AT_NOON)
            for _ in range(2):
                with pytest.raises(NotFoundError):
                    await client.score("nobody", ROW, AT_NOON)
            return await page_with(address, metric_names.REQUESTS, 3)

    page = asyncio.run(run())
    unary = {**SCORE, "grpc_type": "unary"}
    assert page.total(metric_names.REQUESTS, unary, grpc_code="OK") == 1
    assert page.total(metric_names.REQUESTS, unary, grpc_code="NOT_FOUND") == 2
    assert page.total(f"{metric_names.REQUEST_SECONDS}_count", unary) == 3
    assert page.total(f"{metric_names.REQUEST_SECONDS}_sum", unary) > 0
    assert page.total(metric_names.IN_FLIGHT) == 0


def test_a_stream_is_one_call_of_many_requests(scorer_shop: Shop) -> None:
    """A stream counts once as a call, and each of its requests by its own code."""

    async def run() -> Page:
        async with scraped(scorer_shop) as (client, address):
            items = [ScoreItem(name, ROW, AT_NOON) for name in (MODEL, "nobody", MODEL)]
            answers = [answer async for answer in client.score_stream(items)]
            assert [isinstance(one, ScorerCallError) for one in answers] == [False, True, False]
            return await page_with(address, metric_names.REQUESTS, 1)

    page = asyncio.run(run())
    call = {**STREAM, "grpc_type": "bidi_stream", "grpc_code": "OK"}
    assert page.total(metric_names.REQUESTS, call) == 1
    assert page.total(metric_names.STREAM_REQUESTS, STREAM, grpc_code="OK") == 2
    assert page.total(metric_names.STREAM_REQUESTS, STREAM, grpc_code="NOT_FOUND") == 1
    assert page.total(f"{metric_names.STREAM_REQUEST_SECONDS}_count", STREAM) == 3


def test_ages_are_those_of_the_rows_used(scorer_shop: Shop) -> None:
    """A request tells the age of its oldest and of its newest row, at its own moment."""
    route = feast_key({"origin": "JFK", "dest": "LAX"})
    scorer_shop.write("route_1h", route, {"delay": 7.5}, NOON_US - 20_000_000)

    async def run() -> Page:
        async with scraped(scorer_shop) as (client, address):
            at = ScoreOptions(event_time_us=NOON_US + 30_000_000)
            await client.score(MODEL, [ROW, {**ROW, "card": None}], at)
            # Nothing that is stored is used: this has no age.
            await client.score(MODEL, {**ROW, "card": None, "origin": None}, at)
            return await page_with(address, metric_names.REQUESTS, 2)

    page = asyncio.run(run())
    for row, age in (("oldest", 50.0), ("newest", 30.0)):
        labels = {"model": MODEL, "row": row}
        assert page.total(f"{metric_names.FEATURE_AGE}_count", labels) == 1
        assert page.total(f"{metric_names.FEATURE_AGE}_sum", labels) == age


def test_missing_values_have_a_reason(scorer_shop: Shop) -> None:
    """Stand-ins count by view and by why the value was not there."""
    scorer_shop.write("card_1h", feast_key({"card": 7}), {"spent": None, "visits": 4})

    async def run() -> Page:
        async with scraped(scorer_shop) as (client, address):
            rows = [
                {**ROW, "amount": None},
                {**ROW, "card": 1},
                {**ROW, "card": 2},
                {**ROW, "card": 7},
                {**ROW, "card": None},
            ]
            await client.score(MODEL, rows, AT_NOON)
            late = ScoreOptions(event_time_us=NOON_US + 61_000_000)
            await client.score(MODEL, ROW, late)
            return await page_with(address, metric_names.REQUESTS, 2)

    page = asyncio.run(run())
    counted = {
        (labels["view"], labels["reason"]): page.total(metric_names.MISSING_FEATURES, labels)
        for labels in page.labels(metric_names.MISSING_FEATURES)
    }
    assert counted == {
        ("", "null_input"): 1,
        ("card_1h", "no_row"): 4,
        ("card_1h", "null_value"): 1,
        ("card_1h", "null_input"): 2,
        ("route_1h", "expired"): 1,
    }


def test_what_is_shared_is_counted_once(scorer_shop: Shop) -> None:
    """Each request is in one batch and each row in one run, however they come together."""

    async def run() -> Page:
        async with scraped(scorer_shop) as (client, address):
            await asyncio.gather(*(client.score(MODEL, [ROW] * 3, AT_NOON) for _ in range(20)))
            return await page_with(address, metric_names.REQUESTS, 20)

    page = asyncio.run(run())
    assert page.total(f"{metric_names.BATCH_REQUESTS}_sum") == 20
    assert page.total(f"{metric_names.BATCH_ROWS}_sum", model=MODEL) == 60
    reads = page.total(f"{metric_names.FEATURE_READ_SECONDS}_count")
    assert page.total(f"{metric_names.BATCH_REQUESTS}_count") == reads <= 20


def test_an_explanation_tells_its_samples(scorer_shop: Shop) -> None:
    """An explanation counts with the orders that it sampled, none for a linear model."""

    async def run() -> Page:
        async with scraped(scorer_shop) as (client, address):
            await client.explain(MODEL, ROW)
            return await page_with(address, metric_names.REQUESTS, 1)

    page = asyncio.run(run())
    assert page.total(f"{metric_names.EXPLAIN_SAMPLES}_count", model=MODEL) == 1
    assert page.total(f"{metric_names.BATCH_ROWS}_sum", model=MODEL) == 0


def test_versions_that_serve_are_shown(scorer_shop: Shop) -> None:
    """After a swap the new version is shown, the old one is gone, and the swap is counted."""

    async def run() -> tuple[Page, Page]:
        async with scraped(scorer_shop) as (_, address):
            before = await asyncio.to_thread(Page, address)
            scorer_shop.publish("2")
            # What a swap shows last of all; then a page of its own, which is made afterwards.
            await page_with(address, f"{metric_names.SWAP_SECONDS}_count", 2, model=MODEL)
            return before, await asyncio.to_thread(Page, address)

    before, after = asyncio.run(run())
    served = {"model": MODEL, "channel": "champion"}
    assert before.labels(metric_names.MODEL_INFO) == [{**served, "version": "1"}]
    assert after.labels(metric_names.MODEL_INFO) == [{**served, "version": "2"}]
    swapped = {"model": MODEL, "result": "swapped"}
    assert before.total(metric_names.SWAPS, swapped) == 1
    assert after.total(metric_names.SWAPS, swapped) == 2


def test_the_process_is_shown(scorer_shop: Shop) -> None:
    """Memory, CPU time and garbage collections of the process are among the metrics."""

    async def run() -> Page:
        async with scraped(scorer_shop) as (_, address):
            return await page_with(address, metric_names.IN_FLIGHT, 0)

    page = asyncio.run(run())
    assert page.total("process_resident_memory_bytes") > 1e6
    assert page.total("process_cpu_seconds_total") > 0
    assert page.labels("python_gc_collections_total")


def test_a_loop_that_is_held_is_seen() -> None:
    """Work that holds the event loop shows as lag."""

    async def run() -> None:
        measured, late = asyncio.Event(), asyncio.Event()

        def observe(seconds: float) -> None:
            measured.set()
            if seconds > 0.15:
                late.set()

        lag = LoopLag(observe, every_seconds=0.001)
        lag.start()
        async with asyncio.timeout(30):
            await measured.wait()
            time.sleep(0.2)  # noqa: ASYNC251 - it is this that is to be seen
            await late.wait()
        lag.stop()

    asyncio.run(run())


@given(
    st.lists(st.floats(0.125, 8.0)),
    st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]), unique=True).map(sorted),
)
def test_a_tally_shows_what_the_library_shows(values: list[float], bounds: list[float]) -> None:
    """Counted without locks, buckets and counts are those of a histogram of the library."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bounds = [*bounds, 8.0]
    tally = Tally("x", "A text.", ["k"], bounds, ours).labels("v")
    histogram = Histogram("x", "A text.", ["k"], buckets=bounds, registry=theirs).labels("v")
    for value in [*values, *bounds]:
        tally.observe(value)
        histogram.observe(value)
    shown = [
        [line for line in str(generate_latest(one), "utf-8").splitlines() if "_created" not in line]
        for one in (ours, theirs)
    ]
    assert shown[0] == shown[1]


def test_losses_are_counted_by_reason() -> None:
    """Refused tokens, lines left out and spans dropped count by their reason."""
    metrics = ScorerMetrics()
    metrics.token_refused("expired")
    metrics.log_line_left_out("rate")
    metrics.spans_dropped("full", 3)
    for name, reason, count in (
        (metric_names.TOKENS_REFUSED, "expired", 1),
        (metric_names.LOG_LINES_LEFT_OUT, "rate", 1),
        (metric_names.SPANS_DROPPED, "full", 3),
    ):
        assert metrics.registry.get_sample_value(name, {"reason": reason}) == count


def test_one_page_shows_all_processes() -> None:
    """The page has the samples of every process that answers, and says which do not."""
    method = "scorer.v1.ScorerService/Score"
    with free_ports(4) as port, ExitStack() as stack:
        address = f"127.0.0.1:{port}"
        for process, calls in ((0, 2), (2, 5)):
            metrics = ScorerMetrics()
            for _ in range(calls):
                metrics.handled(method, "OK", 0.001)
            host, _, own = process_address(address, process).rpartition(":")
            stack.callback(metrics.serve(host, int(own)))
        stack.callback(show_gathered(address, 3))
        page = Page(address)
    up = [page.total(metric_names.PROCESS_UP, process=str(number)) for number in range(3)]
    assert up == [1, 0, 1]
    counted = [page.total(metric_names.REQUESTS, SCORE, process=str(number)) for number in range(3)]
    assert counted == [2, 0, 5]
    assert page.total(f"{metric_names.REQUEST_SECONDS}_bucket", SCORE, le="+Inf") == 7
    assert page.total("process_resident_memory_bytes", process="2") > 0


def test_a_process_that_hangs_does_not_hold_the_page() -> None:
    """A process that takes the connection and says nothing counts as down after its time."""
    with free_ports(2) as port, ExitStack() as stack:
        stack.enter_context(socket.create_server(("127.0.0.1", port + 1)))
        stack.callback(show_gathered(f"127.0.0.1:{port}", 1, timeout_seconds=0.05))
        page = Page(f"127.0.0.1:{port}")
    assert page.total(metric_names.PROCESS_UP) == 0
    assert page.labels(metric_names.PROCESS_UP) == [{"process": "0"}]


def test_addresses_of_processes() -> None:
    """Processes show their own metrics behind the page's port, on this machine only."""
    assert process_address("", 3) == ""
    assert process_address("0.0.0.0:9101", 0) == "127.0.0.1:9102"
    assert process_address("[::]:9101", 3) == "127.0.0.1:9105"
    with pytest.raises(ConfigurationError, match="HEADWATER_METRICS_ADDRESS"):
        process_address("127.0.0.1:65534", 1)


def test_a_taken_address_of_the_page_is_named() -> None:
    """A page that cannot be shown says which setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match="HEADWATER_METRICS_ADDRESS"):
            show_gathered(address, 1)


def test_the_manual_lists_exactly_the_metrics() -> None:
    """The table of metrics for users has every one of the scorer's, and no other."""
    text = (ROOT / "docs" / "scorer" / "observability.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `((?:headwater|grpc)_\w+)` \|", text, flags=re.MULTILINE)
    named = {name for name in vars(metric_names).values() if isinstance(name, str)}
    scorers = {name for name in named if name.startswith(("headwater_scorer_", "grpc_"))}
    assert len(listed) == len(set(listed))
    assert set(listed) == scorers
