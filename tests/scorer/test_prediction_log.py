"""The prediction log: what it says, and that no request ever waits for it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import msgspec
import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition

from contracts.log import LogError, RecordTooLargeError
from contracts.prediction_record import PredictionRecord
from contracts.settings import SettingsError
from scorer import prediction_log
from scorer.client import AsyncScorerClient, Scored, ScoreOptions, score_request
from scorer.metrics import ScorerMetrics
from scorer.prediction_log import PredictionLog, open_prediction_log, records_of
from scorer.scored import ScoredRequest
from scorer.server import running
from scorer.v1 import scorer_pb2_grpc
from scorer.vector import Missing, MissingReason, Vectors
from scorer.vector_plan import Scalar
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop, manifest_for
from tests.services.kafka import KafkaBroker
from tests.services.server import free_ports

SECONDS_MAX = 30.0
NOBODY = {**ROW, "card": 1, "items": None}


def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is true, or fail."""
    end = time.monotonic() + SECONDS_MAX
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


async def eventually_while_serving(true: Callable[[], bool]) -> None:
    """The same without holding up the scorer on this loop."""
    await asyncio.to_thread(eventually, true)


def records_in(folder: Path) -> list[PredictionRecord]:
    """All records of the file log."""
    file = folder / "predictions" / "0.ndjson"
    decode = msgspec.json.Decoder(PredictionRecord).decode
    return [decode(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def read_topic(broker: KafkaBroker, topic: str, count: int) -> list[tuple[bytes, PredictionRecord]]:
    """The first records of the topic with their keys, as they come."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, enable_auto_commit=False)
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        found: list[tuple[bytes, PredictionRecord]] = []
        decode = msgspec.json.Decoder(PredictionRecord).decode
        end = time.monotonic() + SECONDS_MAX
        while len(found) < count:
            assert time.monotonic() < end
            for messages in consumer.poll(timeout_ms=200).values():
                found += [(one.key, decode(one.value)) for one in messages]
        return found
    finally:
        consumer.close()


def counted(metrics: ScorerMetrics, name: str, **labels: str) -> float:
    """The value of a metric by the end of its name; 0 if it was never touched."""
    return metrics.registry.get_sample_value(f"headwater_scorer_predictions_{name}", labels) or 0.0


async def ask(client: AsyncScorerClient, number: int) -> None:
    """One request with the number as its id."""
    options = ScoreOptions(event_time_us=NOON_US, request_id=f"ask-{number}")
    await client.score(MODEL, [ROW], options)


def test_a_record_says_what_was_asked_and_answered(scorer_shop: Shop) -> None:
    """Inputs, vector, what was missing, times and score are those of request and response."""

    async def run() -> Scored:
        async with scorer_shop.client() as client:
            options = ScoreOptions(
                event_time_us=NOON_US + 5, include_features=True, request_id="from the caller"
            )
            return await client.score(MODEL, [ROW, NOBODY], options)

    response = asyncio.run(run())
    (record,) = records_in(scorer_shop.folder / "data" / "log")
    manifest, _ = scorer_shop.repository.load(MODEL, "1")
    assert record.request_id == "from the caller"
    assert (record.model, record.version) == (MODEL, "1")
    assert record.fingerprint == manifest.fingerprint
    assert record.features == list(manifest.schema.names)
    assert record.at_us == NOON_US + 5
    assert record.latency_ms > 0
    assert record.event_timestamp.endswith("Z")
    assert [row.inputs for row in record.rows] == [ROW, NOBODY]
    assert [row.vector for row in record.rows] == response.features
    assert [row.missing for row in record.rows] == response.missing
    assert [row.score for row in record.rows] == response.scores
    assert [row.oldest_feature_us for row in record.rows] == response.oldest_us
    assert [row.newest_feature_us for row in record.rows] == response.newest_us
    assert record.rows[1].missing


def test_only_answers_are_logged_and_each_has_an_id(scorer_shop: Shop) -> None:
    """A refused request leaves nothing; one without an id gets one, which is not answered."""

    async def run() -> list[str]:
        ids = []
        async with (
            running(scorer_shop.settings(), scorer_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            for row in (ROW, {**ROW, "amount": "text"}, ROW):
                request = score_request(MODEL, [row], ScoreOptions(event_time_us=NOON_US))
                with suppress(grpc.aio.AioRpcError):
                    ids.append((await stub.Score(request)).request_id)
        return ids

    assert asyncio.run(run()) == ["", ""]
    first, second = records_in(scorer_shop.folder / "data" / "log")
    assert first.request_id
    assert first.request_id != second.request_id


def test_stopping_writes_everything_in_order(scorer_shop: Shop) -> None:
    """What was answered just before the end is in the log, in the order of the answers."""

    async def run() -> None:
        async with scorer_shop.client() as client:
            for number in range(50):
                await ask(client, number)

    asyncio.run(run())
    found = [record.request_id for record in records_in(scorer_shop.folder / "data" / "log")]
    assert found == [f"ask-{number}" for number in range(50)]


def test_no_topic_is_no_log(scorer_shop: Shop) -> None:
    """With an empty topic nothing is written, and no folder made."""

    async def run() -> None:
        async with scorer_shop.client(prediction_topic="") as client:
            await ask(client, 0)

    asyncio.run(run())
    assert not (scorer_shop.folder / "data" / "log").exists()


def test_wrong_settings_of_kafka_stop_the_start(scorer_shop: Shop) -> None:
    """What no waiting can mend is told before the scorer serves."""
    settings = scorer_shop.settings(
        log_url="kafka://127.0.0.1:9", kafka_security_protocol="SASL_SSL"
    )
    with pytest.raises(SettingsError, match="KAFKA_SASL_USERNAME"):
        open_prediction_log(settings, ScorerMetrics())


@dataclass
class Log:
    """A log that can be broken, and writers to it."""

    records: list[tuple[str, bytes]] = field(default_factory=list)
    broken: bool = False
    bytes_max: int = 1_000_000_000
    opened: int = 0
    stuck: threading.Event | None = None

    def open(self) -> Log:
        """What ``open_writer`` does."""
        if self.broken:
            raise LogError("it is broken")
        self.opened += 1
        return self

    def append(self, records: Iterable[tuple[str, bytes]]) -> int:
        """Append all, or one less than all where the log breaks."""
        records = list(records)
        if self.stuck is not None:
            assert self.stuck.wait(SECONDS_MAX)
        if any(len(data) > self.bytes_max for _, data in records):
            raise RecordTooLargeError("too large")
        if self.broken:
            raise LogError("it is broken")
        self.records += records
        return len(records)

    def close(self) -> None:
        """Nothing to do."""


def scored(request_id: str, rows: int = 1, text: str = "") -> ScoredRequest:
    """A request that was answered."""
    missing: list[tuple[Missing, ...]] = [(Missing(1, MissingReason.NULL_VALUE),)] * rows
    times: list[int | None] = [None] * rows
    vectors = Vectors(np.array([[1.5, np.nan]] * rows), missing, times, times)
    inputs: list[dict[str, Scalar]] = [{"number": n, "text": text} for n in range(rows)]
    scores = [number / 7 for number in range(rows)]
    came_us, manifest = 1_700_000_000_000_001, manifest_for("1", b"")
    return ScoredRequest(request_id, manifest, inputs, scores, vectors, came_us, NOON_US, 0.25)


@pytest.fixture
def new_log(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[PredictionLog, ScorerMetrics]]:
    """A started prediction log that tries again soon."""
    monkeypatch.setattr(prediction_log, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(prediction_log, "_BACKOFF_SECONDS", (0.01, 0.02))

    def make(log: Log, requests_max: int) -> tuple[PredictionLog, ScorerMetrics]:
        metrics = ScorerMetrics()
        predictions = PredictionLog(log.open, requests_max, metrics)
        predictions.start()
        return predictions, metrics

    return make


NewLog = Callable[[Log, int], tuple[PredictionLog, ScorerMetrics]]


def test_a_full_buffer_drops_and_counts(new_log: NewLog) -> None:
    """While the log is broken as many requests wait as may, the rest is dropped and counted."""
    log = Log(broken=True)
    predictions, metrics = new_log(log, 10)
    for number in range(25):
        predictions.put(scored(f"{number}"))
    assert counted(metrics, "dropped_total", reason="full") == 15
    assert counted(metrics, "waiting") == 10
    log.broken = False
    eventually(lambda: counted(metrics, "written_total") == 10)
    assert [key for key, _ in log.records] == [f"{number}" for number in range(10)]
    assert counted(metrics, "waiting") == 0
    predictions.put(scored("later"))
    asyncio.run(predictions.stop(5.0))
    assert log.records[-1][0] == "later"
    assert counted(metrics, "dropped_total", reason="full") == 15


def test_rows_are_bounded_too(new_log: NewLog) -> None:
    """Requests of many rows fill the buffer before there are many of them; one always fits."""
    log = Log(broken=True)
    predictions, metrics = new_log(log, 10)
    predictions.put(scored("many", rows=1_000))
    predictions.put(scored("one more"))
    assert counted(metrics, "dropped_total", reason="full") == 1
    log.broken = False
    eventually(lambda: counted(metrics, "written_total") == 1)
    predictions.put(scored("and on"))
    asyncio.run(predictions.stop(5.0))
    assert [key for key, _ in log.records] == ["many", "and on"]


def test_a_failed_write_is_tried_again_with_the_same_bytes(new_log: NewLog) -> None:
    """A log that breaks under a write gets the same records again, through a new writer."""
    log = Log(stuck=threading.Event())
    predictions, metrics = new_log(log, 10)
    predictions.put(scored(""))
    eventually(lambda: counted(metrics, "waiting") == 1 and log.opened == 1)
    log.broken = True
    assert log.stuck is not None
    log.stuck.set()
    eventually(lambda: predictions._failures > 0)
    (kept,) = predictions._batch.records
    log.broken = False
    eventually(lambda: counted(metrics, "written_total") == 1)
    asyncio.run(predictions.stop(5.0))
    assert log.opened > 1
    assert log.records == [kept]


def test_what_the_log_refuses_is_dropped_alone(new_log: NewLog) -> None:
    """A record that is too large for the log goes, those beside it arrive."""
    log = Log(bytes_max=2_000, stuck=threading.Event())
    predictions, metrics = new_log(log, 100)
    for request_id in ("a", "b", "large", "c"):
        text = "x" * 3_000 if request_id == "large" else ""
        predictions.put(scored(request_id, text=text))
    assert log.stuck is not None
    log.stuck.set()
    asyncio.run(predictions.stop(5.0))
    assert [key for key, _ in log.records] == ["a", "b", "c"]
    assert counted(metrics, "dropped_total", reason="too_large") == 1
    assert counted(metrics, "written_total") == 3


def test_stopping_has_an_end(new_log: NewLog) -> None:
    """A log that hangs does not keep the scorer from ending; what is lost is counted."""
    log = Log(stuck=threading.Event())
    predictions, metrics = new_log(log, 10)
    for number in range(4):
        predictions.put(scored(f"{number}"))
    asyncio.run(predictions.stop(0.1))
    assert counted(metrics, "dropped_total", reason="stopped") == 4
    assert log.stuck is not None
    log.stuck.set()


def test_a_large_request_stands_in_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that do not fit into one record go into several, in order, with the same id."""
    monkeypatch.setattr(prediction_log, "RECORD_BYTES_MAX", 5_000)
    request = scored("large", rows=200)
    records = records_of(request)
    assert len(records) > 1
    assert all(key == "large" and len(data) <= 5_000 for key, data in records)
    decoded = [msgspec.json.decode(data, type=PredictionRecord) for _, data in records]
    assert [row.inputs for one in decoded for row in one.rows] == list(request.inputs)
    assert {one.request_id for one in decoded} == {"large"}
    assert decoded[0].event_timestamp == "2023-11-14T22:13:20.000001Z"
    # JSON has no NaN; the field is null and named among the missing.
    assert json.loads(records[0][1])["rows"][0]["vector"] == [1.5, None]


@pytest.mark.services
def test_records_go_to_kafka_by_their_id(scorer_shop: Shop, kafka_broker: KafkaBroker) -> None:
    """The topic is made, and holds each record under its request id, in order."""
    topic = f"predictions-{time.time_ns()}"

    async def run() -> None:
        url = f"kafka://{kafka_broker.bootstrap_servers}"
        async with scorer_shop.client(log_url=url, prediction_topic=topic) as client:
            for number in range(20):
                await ask(client, number)

    asyncio.run(run())
    found = read_topic(kafka_broker, topic, 20)
    assert [key.decode() for key, _ in found] == [f"ask-{number}" for number in range(20)]
    assert [record.request_id for _, record in found] == [key.decode() for key, _ in found]


@pytest.mark.services
def test_requests_go_on_without_kafka(
    scorer_shop: Shop,
    new_kafka_broker: Callable[..., KafkaBroker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With Kafka gone all requests succeed, drops rise; with Kafka back the log goes on by itself.

    Nothing is lost of what waited, and it stays in order.
    """
    broker = new_kafka_broker()
    given: dict[str, object] = {
        "log_url": f"kafka://{broker.bootstrap_servers}",
        "kafka_timeout_seconds": 2.0,
        "prediction_buffer_max": 20,
    }
    shown: list[ScorerMetrics] = []

    async def run() -> None:
        async with scorer_shop.client(**given) as client:
            await ask(client, 0)
            (metrics,) = shown
            await eventually_while_serving(lambda: counted(metrics, "written_total") == 1)
            await asyncio.to_thread(broker.stop)
            for number in range(1, 41):
                await ask(client, number)
            assert counted(metrics, "dropped_total", reason="full") == 20
            await asyncio.to_thread(broker.start)
            await eventually_while_serving(lambda: counted(metrics, "written_total") == 21)
            await ask(client, 41)

    def new_metrics() -> ScorerMetrics:
        shown.append(ScorerMetrics())
        return shown[-1]

    monkeypatch.setattr("scorer.server.ScorerMetrics", new_metrics)
    asyncio.run(run())
    # What was acknowledged to nobody may stand there twice.
    ids = dict.fromkeys(key.decode() for key, _ in read_topic(broker, "predictions", 22))
    assert list(ids) == [f"ask-{number}" for number in (*range(21), 41)]


@pytest.mark.services
def test_the_scorer_starts_and_ends_without_kafka(scorer_shop: Shop) -> None:
    """A scorer whose Kafka was never there serves, and ends long before Kafka's time is up."""
    (port,) = free_ports(1)

    async def run() -> float:
        async with scorer_shop.client(log_url=f"kafka://127.0.0.1:{port}") as client:
            await ask(client, 0)
            begun = time.monotonic()
        return time.monotonic() - begun

    assert asyncio.run(run()) < 15
