"""The topic of drift alerts in Kafka."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import kafka.errors
import msgspec

from contracts.drift_record import DRIFT_TOPIC, DriftAlert
from contracts.kafka_producer import KafkaLogWriter
from contracts.log import LogError
from dataflows.flow.run_context import RunContext
from dataflows.flow.waiting import kafka_to_answer, teller
from dataflows.sources.kafka_errors import is_passing
from dataflows.sources.kafka_topics import CLIENT_ID

# Whoever is told to stop must not wait for long for an answer that will not come.
_ATTEMPT_SECONDS = 2.0
_FIRST_PAUSE_SECONDS = 0.1
_PAUSE_SECONDS_MAX = 5.0


class KafkaAlerts:
    """Alerts in Kafka. An epoch that was killed brings its alerts again: their ids are the same."""

    def __init__(self, context: RunContext) -> None:
        """Nothing is asked of Kafka before the first alert."""
        seconds = min(context.settings.kafka_timeout_seconds, _ATTEMPT_SECONDS)
        self._settings = context.settings.model_copy(update={"kafka_timeout_seconds": seconds})
        self._context = context
        self._tell: Callable[[str], None] = teller(context, f"alerts to {DRIFT_TOPIC}")
        self._writer: KafkaLogWriter | None = None

    def append(self, alerts: Sequence[DriftAlert]) -> None:
        """Append, by the model's name as key; wait for brokers that are gone.

        Raises:
            LogError: they are gone for too long, or refuse, or we are told to stop meanwhile.
        """
        if not alerts:
            return
        context = self._context
        began, pause_seconds = context.monotonic(), _FIRST_PAUSE_SECONDS
        try:
            while True:
                try:
                    self._append(alerts)
                    return
                except LogError as error:
                    self._forget()
                    waited = context.monotonic() - began
                    if not _may_pass(error) or waited > context.settings.outage_seconds:
                        raise
                    self._tell(kafka_to_answer(context.settings))
                    if context.stop.wait(pause_seconds):
                        raise
                    pause_seconds = min(2 * pause_seconds, _PAUSE_SECONDS_MAX)
        finally:
            self._tell("")

    def close(self) -> None:
        """Disconnect."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _append(self, alerts: Sequence[DriftAlert]) -> None:
        if self._writer is None:
            self._writer = KafkaLogWriter(self._settings, DRIFT_TOPIC, CLIENT_ID)
        self._writer.append((alert.model, msgspec.json.encode(alert)) for alert in alerts)

    def _forget(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(LogError):
                writer.close()


def _may_pass(error: LogError) -> bool:
    cause = error.__cause__
    return isinstance(cause, kafka.errors.KafkaError) and is_passing(cause)
