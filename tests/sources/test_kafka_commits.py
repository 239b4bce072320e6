"""Telling Kafka how far the flow is must not stop the reading."""

from __future__ import annotations

import time

import pytest
from kafka import TopicPartition

from dataflows.sources.kafka_commits import RETRY_SECONDS, OffsetCommits
from tests.services.server import free_ports
from tests.sources.kafka_reading import settings_for

# kafka-python leaves sockets open that were refused.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class _Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def test_a_connection_that_fails_is_not_tried_at_every_poll() -> None:
    """It stops the reading for a moment, and then no more for some time, however often asked."""
    clock = _Clock()
    servers = f"127.0.0.1:{free_ports(1)[0]}"
    commits = OffsetCommits(settings_for(servers), "group", clock)

    def seconds_of_a_commit() -> float:
        began = time.monotonic()
        commits.commit({TopicPartition("topic", 0): 1})
        return time.monotonic() - began

    first = seconds_of_a_commit()
    assert first > 0.2, "it was tried"
    again = [seconds_of_a_commit() for _ in range(20)]
    assert sum(again) < first / 4
    clock.ahead = RETRY_SECONDS
    assert seconds_of_a_commit() > first / 4, "it is tried again later"
    commits.close({})
