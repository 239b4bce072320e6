"""A running scorer, a log, and the evaluator beside it: rollouts that decide themselves."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.evaluation_file import evaluation_file, read_evaluation
from contracts.file_log import FileLogWriter
from contracts.kafka_producer import KafkaLogWriter
from contracts.log import LogWriter
from contracts.model_channels import AuditEntry
from contracts.plan import Plan
from contracts.settings import EvaluatorSettings
from dataflows.served.evaluator import Evaluator
from scorer.client import AsyncScorerClient, ScoreOptions
from tests.scorer.shop import MODEL, NOON_US, ROW, SCHEMA, WEIGHTS, Shop, linear_onnx, manifest_for
from tests.served.world import BINARY, LABELS, SECOND_US, World, label
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka

SECONDS_MAX = 60.0
ROWS_PER_REQUEST = 20


class Market:
    """The shop, its plan, and a log."""

    def __init__(self, folder: Path, topic: str = "outcomes", **given: Any) -> None:
        self.shop = Shop(folder)
        self.shop.create()
        model = replace(BINARY, schema=SCHEMA, label_topic=topic)
        self.plan = Plan("shop", (replace(LABELS, name=topic),), (), (model,))
        models = {"model_repository": folder / "data" / "models"}
        self.settings: EvaluatorSettings = World(folder).settings(**models, **given)
        self._given = given

    def publish(self, version: str, factor: float) -> None:
        """A version whose log odds are those of version 1, times a factor."""
        data = linear_onnx(tuple(factor * weight for weight in WEIGHTS), factor * 0.1)
        self.shop.repository.publish(manifest_for(version, data), data)

    @property
    def last(self) -> AuditEntry:
        """What was done last."""
        return self.shop.repository.audit(MODEL)[-1]

    def evaluator(self, stop: threading.Event) -> Evaluator:
        """An evaluator of it."""
        return Evaluator(self.plan, self.settings, stop, lambda _: None)

    def writer(self) -> LogWriter:
        """Where labels go."""
        topic = self.plan.topics[0].name
        if self.settings.log.folder is None:
            return KafkaLogWriter(self.settings, topic, "test")
        return FileLogWriter(self.settings.log.folder, topic)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Shopping]:
        """A scorer and an evaluator, as long as the context."""
        given = {name: getattr(self.settings, name) for name in ("log_url", "prediction_topic")}
        with closing(self.writer()) as writer, self._evaluating():
            async with self.shop.client(**given) as client:
                yield Shopping(writer, client)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        stop = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                self.evaluator(stop).run(until_end=False)
            except BaseException as error:  # noqa: BLE001 - told below
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(SECONDS_MAX)
        assert not thread.is_alive()
        assert not failures


class Shopping:
    """Requests to a scorer, and later what came true."""

    def __init__(self, labels: LogWriter, client: AsyncScorerClient) -> None:
        self._labels, self._client = labels, client
        self._rng = random.Random(7)
        self._orders = 0

    async def go_on(self, until: Callable[[], bool]) -> None:
        """Score and label rows until something holds."""
        async with asyncio.timeout(SECONDS_MAX):
            while not until():
                await self._some_rows()
                await asyncio.sleep(0.02)

    async def _some_rows(self) -> None:
        numbers = range(self._orders, self._orders + ROWS_PER_REQUEST)
        self._orders += ROWS_PER_REQUEST
        amounts = [self._rng.gauss(0, 6) for _ in numbers]
        rows = [{**ROW, "amount": amount} for amount in amounts]
        keys = tuple(f"o{number}" for number in numbers)
        at_us = NOON_US + numbers[0] * 1_000
        options = ScoreOptions(event_time_us=at_us, keys=keys, request_id=keys[0])
        await self._client.score(MODEL, rows, options)
        # What comes true follows from the amount, as version 1 has learned.
        truths = [amount / 2 + self._rng.gauss(0, 1) > 0 for amount in amounts]
        known = [
            (key, label(key, 5.0 if truth else 1.0, at_us + SECOND_US))
            for key, truth in zip(keys, truths, strict=True)
        ]
        await asyncio.to_thread(self._labels.append, known)

    async def until_served(self, version: str | None) -> None:
        """Until the scorer has that challenger."""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                if (await self._client.routes())[MODEL].channels.get("challenger") == version:
                    return
                await asyncio.sleep(0.005)


def test_a_bad_challenger_is_gone_by_itself(tmp_path: Path) -> None:
    """From a new version to its rollback nobody does anything, and the scorer follows."""
    market = Market(tmp_path)

    async def run() -> None:
        async with market.open() as shopping:
            market.publish("2", -1.0)
            await shopping.until_served("2")
            await shopping.go_on(lambda: market.last.action == "rollback")
            await shopping.until_served(None)

    asyncio.run(run())
    assert (market.last.actor, market.last.previous, market.last.share) == ("evaluator", "2", 0.0)
    figures = market.last.figures
    assert figures["challenger_loss"] > figures["champion_loss"] + 0.1
    assert figures["paired_labels"] <= figures["labels"] <= 500
    assert market.shop.repository.channels(MODEL).champion == "1"


def _promoted(market: Market) -> None:
    async def run() -> None:
        async with market.open() as shopping:
            market.publish("2", 1.0)
            await shopping.go_on(lambda: market.last.action == "promote")
            await shopping.until_served(None)

    asyncio.run(run())
    entries = market.shop.repository.audit(MODEL)
    assert [e.action for e in entries if e.actor == "evaluator"] == ["set", "weigh", "promote"]
    assert market.shop.repository.channels(MODEL).champion == "2"
    assert market.last.figures["paired_labels"] > 100
    # What it left unread is read by the next run, and nothing twice.
    market.evaluator(threading.Event()).run(until_end=True)
    served = read_evaluation(evaluation_file(market.settings.model_repository, MODEL, "served"))
    assert served is not None
    counts = served["counts"]
    assert counts["repeated_labels"] == 0
    assert counts["joined"] == counts["rows"] > 400
    assert served["all"]["all"]["outcomes"] == counts["labels"]


def test_an_equal_challenger_becomes_champion(tmp_path: Path) -> None:
    """It takes all steps, and answers everything in the end."""
    _promoted(Market(tmp_path))


@pytest.mark.services
def test_the_same_from_kafka(
    tmp_path: Path, kafka_broker: KafkaBroker | OutsideKafka, new_topic: Callable[..., str]
) -> None:
    """Predictions and labels go through Kafka; a later run goes on where the last one ended."""
    log = {"log_url": f"kafka://{kafka_broker.bootstrap_servers}"}
    _promoted(Market(tmp_path, new_topic(3), **log, prediction_topic=new_topic(2)))
