"""Tells Kafka how far the flow has come, for those who watch the lag. Nobody reads it back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import kafka.errors
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from contracts.log import LogError
from contracts.settings import DataflowSettings
from dataflows.sources.kafka_topics import open_briefly

COMMIT_SECONDS = 1.0
# After a connection that failed: each try stops the reading for up to two seconds.
RETRY_SECONDS = 10.0
_CONNECT_SECONDS_MAX = 2.0
_CLOSE_SECONDS_MAX = 3.0

_log = logging.getLogger(__name__)


class OffsetCommits:
    """Commits offsets for a group that nobody joins, at most once in ``COMMIT_SECONDS``.

    It has a connection of its own: a reader with a group waits for the group's coordinator at
    every poll. Failures that pass are tried again with the next commit, others are logged once.
    """

    def __init__(
        self, settings: DataflowSettings, group: str, monotonic: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._group = group
        self._monotonic = monotonic
        self._consumer: Any = None
        self._next_at = float("-inf")
        self._done: dict[TopicPartition, int] = {}
        self._is_refused = False

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Send what has changed, if the last time is long enough ago; does not wait for it."""
        if self._monotonic() < self._next_at:
            return
        changed = self._changed(offsets)
        if not changed:
            return
        if self._is_connected():
            self._consumer.commit_async(changed, callback=self._note)
            self._next_at = self._monotonic() + COMMIT_SECONDS
        else:
            self._next_at = self._monotonic() + RETRY_SECONDS

    def close(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Send what has changed, wait a few seconds for it, and let go of Kafka."""
        changed = self._changed(offsets)
        try:
            if changed and not self._is_connected():
                _log.warning("the last offsets of group %s are not committed", self._group)
            elif changed:
                self._consumer.commit(changed, timeout_ms=int(_CLOSE_SECONDS_MAX * 1000))
        except kafka.errors.KafkaError as error:
            self._note(changed, error)
        finally:
            if self._consumer is not None:
                self._consumer.close(timeout_ms=int(_CLOSE_SECONDS_MAX * 1000))

    def _changed(
        self, offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        if self._is_refused:
            return {}
        return {
            partition: OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
            if self._done.get(partition) != offset
        }

    def _is_connected(self) -> bool:
        if self._consumer is None:
            try:
                self._consumer = open_briefly(
                    KafkaConsumer,
                    self._settings,
                    _CONNECT_SECONDS_MAX,
                    group_id=self._group,
                    enable_auto_commit=False,
                    metrics_enabled=False,
                )
            except LogError:
                # Who reads finds out as well, and says so.
                return False
        return self._consumer is not None

    def _note(self, sent: Mapping[TopicPartition, OffsetAndMetadata], answer: object) -> None:
        """The answer to a commit: an exception, or that it is done."""
        if not isinstance(answer, Exception):
            self._done |= {partition: sent[partition].offset for partition in sent}
        elif not getattr(answer, "retriable", False):
            self._is_refused = True
            _log.warning(
                "Kafka does not take the offsets of group %s, so the lag cannot be seen there: "
                "%s: %s; grant Read on the group, or set HEADWATER_KAFKA_GROUP to one that "
                "nobody else uses",
                self._group,
                type(answer).__name__,
                answer,
            )
