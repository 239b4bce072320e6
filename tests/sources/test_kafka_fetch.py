"""The hook into kafka-python: that it is there, and what happens when it is not."""

from __future__ import annotations

import logging
import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.net.selector import NetworkSelector

from dataflows.sources.kafka_fetch import BatchPoller, StockPoller, make_poller, missing_hook

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_the_hook_is_there_in_the_version_we_pin() -> None:
    """kafka-python's fetcher has every part that reading whole batches needs."""
    fetcher = SimpleNamespace(
        PartitionRecords=Fetcher.PartitionRecords,
        _parse_fetched_data=Fetcher._parse_fetched_data,
        config=Fetcher.DEFAULT_CONFIG,
    )
    assert missing_hook(SimpleNamespace(_fetcher=fetcher)) is None
    # Where answers lie that have come and were not asked for yet.
    assert "_completed_fetches" in Fetcher.__init__.__code__.co_names
    assert callable(Fetcher.in_flight_fetches)
    assert "fetch_max_wait_ms" in Fetcher.DEFAULT_CONFIG
    assert "enable_incremental_fetch_sessions" in KafkaConsumer.DEFAULT_CONFIG


def test_answers_that_have_waited_are_told_from_others() -> None:
    """What a broker has answered before it was asked for says so: later records are not in it."""
    consumer = SimpleNamespace(
        _fetcher=SimpleNamespace(
            PartitionRecords=Fetcher.PartitionRecords,
            _parse_fetched_data=lambda completed: completed,
            _completed_fetches=deque([1]),
        )
    )
    consumer.poll = lambda timeout_ms: consumer._fetcher._completed_fetches.clear() or {}
    poller = BatchPoller(consumer)
    assert [poller.poll(0.1).have_waited for _ in range(2)] == [True, False]


def test_an_answer_that_nobody_has_looked_at_may_have_waited() -> None:
    """What was asked for before a rest may be answered by now: its records are as old."""
    asked = [True, False]
    consumer = SimpleNamespace(
        _fetcher=SimpleNamespace(
            PartitionRecords=Fetcher.PartitionRecords,
            _parse_fetched_data=lambda completed: completed,
            in_flight_fetches=lambda: asked.pop(0),
        ),
        poll=lambda timeout_ms: {},
    )
    poller = BatchPoller(consumer)
    assert [poller.poll(0.1).have_waited for _ in range(2)] == [True, False]


def test_connections_are_read_in_the_thread_that_polls() -> None:
    """kafka-python's own thread ends, and what it would have done the caller does."""
    net = NetworkSelector(client_id="test")
    net.start()
    poller = make_poller(SimpleNamespace(_net=net, _fetcher=None))
    assert isinstance(poller, StockPoller)
    assert not [one for one in threading.enumerate() if one.name == "kafka-io-test"]
    try:
        assert net.run(threading.get_ident) == threading.get_ident()
    finally:
        net.close()


class _OtherParameters(Fetcher.PartitionRecords):  # type: ignore[misc]
    def _unpack_records(self, records: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("insides", "missing"),
    [
        (SimpleNamespace(), "Fetcher.PartitionRecords"),
        (
            SimpleNamespace(PartitionRecords=Fetcher.PartitionRecords, config={}),
            "Fetcher._parse_fetched_data",
        ),
        (
            SimpleNamespace(PartitionRecords=_OtherParameters, _parse_fetched_data=1, config={}),
            "PartitionRecords._unpack_records",
        ),
    ],
)
def test_without_the_hook_stock_poll_reads_and_says_so(
    insides: SimpleNamespace, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A kafka-python with other insides is read by its public parts, with a warning."""
    with caplog.at_level(logging.WARNING):
        poller = make_poller(SimpleNamespace(_fetcher=insides))
    assert isinstance(poller, StockPoller)
    assert missing in caplog.text
    assert "install 'kafka-python>=3.0,<3.1'" in caplog.text
