"""When the thread that reads Kafka rests, and when it asks again at once."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kafka import TopicPartition

from contracts.log import Chunk
from dataflows.sources.kafka_fetch import Answers
from dataflows.sources.kafka_log import REST_BYTES_MAX, KafkaLog
from tests.sources.kafka_reading import settings_for

NAME = TopicPartition("rides", 0)


def _answer(size: int, *, have_waited: bool) -> Answers:
    if not size:
        return Answers()
    records = b"x" * (size - 1) + b"\n"
    zero = np.zeros(1, np.int64)
    return Answers({NAME: [Chunk(records, zero, zero, 1, zero)]}, {}, have_waited)


LITTLE = _answer(50, have_waited=False)
LITTLE_OLD = _answer(50, have_waited=True)
MUCH = _answer(REST_BYTES_MAX, have_waited=False)


class Poller:
    """Gives what the test says; then the log is closed."""

    def __init__(self, answers: list[Answers], done: list[str]) -> None:
        self._answers = answers
        self._done = done
        self.log: KafkaLog | None = None

    def poll(self, timeout_seconds: float) -> Answers:
        """The next one."""
        self._done.append("poll")
        answer = self._answers.pop(0)
        if not self._answers:
            assert self.log is not None
            self.log._is_closing = True
        return answer

    def hurry(self, wait_seconds: float) -> None:
        """It does not wait."""


@pytest.mark.parametrize(
    ("answers", "done"),
    [
        pytest.param([LITTLE, LITTLE], "poll rest poll rest", id="live"),
        pytest.param([MUCH, MUCH, MUCH], "poll poll poll", id="much"),
        pytest.param([LITTLE, _answer(0, have_waited=False)], "poll rest poll", id="nothing"),
        pytest.param([LITTLE, LITTLE_OLD, LITTLE], "poll rest poll poll rest", id="old"),
        # However busy the machine, two polls to a rest are the most.
        pytest.param([LITTLE_OLD] * 5, "poll rest poll poll rest poll poll rest", id="always old"),
    ],
)
def test_fetches_are_sent_after_a_rest(
    answers: list[Answers], done: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come during a rest makes no other rest, so that the next fetch is a fresh one."""
    said: list[str] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: said.append("rest"))
    log = KafkaLog(settings_for("127.0.0.1:1"), "test")
    monkeypatch.setattr(log, "_run", lambda: None)
    log.open(NAME.topic, NAME.partition, 0)
    poller = Poller(list(answers), said)
    poller.log = log
    nothing: Any = SimpleNamespace(assign=_ignore, seek=_ignore, resume=_ignore, pause=_ignore)
    log._read_on(nothing, poller)
    assert " ".join(said) == done


def _ignore(*_: object) -> None:
    """What a consumer is told."""
