"""The hook into kafka-python: that it is there, and what happens when it is not."""

from __future__ import annotations

import logging
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher

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
