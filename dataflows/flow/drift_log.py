"""The topic of drift alerts, in the log of files and in Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from contracts.drift_record import DRIFT_TOPIC, DriftAlert
from contracts.file_log import FileLogWriter
from dataflows.flow.run_context import RunContext


class AlertLog(Protocol):
    """Where alerts go."""

    def append(self, alerts: Sequence[DriftAlert]) -> None:
        """Append, and return when they are there; raise LogError."""
        ...

    def close(self) -> None:
        """Let go of the topic."""
        ...


class FileAlerts:
    """Alerts in the log of files, each once: what the topic holds is read at the start."""

    def __init__(self, folder: Path) -> None:
        """The file log in ``folder``; raise LogError if it cannot be written."""
        self._writer = FileLogWriter(folder, DRIFT_TOPIC)
        self._known = {hash(line.rstrip(b"\n")) for line in self._writer.lines()}

    def append(self, alerts: Sequence[DriftAlert]) -> None:
        """Append those that are not there yet, byte for byte."""
        lines = [(alert.model, msgspec.json.encode(alert)) for alert in alerts]
        new = [(model, line) for model, line in lines if hash(line) not in self._known]
        self._known.update(hash(line) for _, line in new)
        self._writer.append(new)

    def close(self) -> None:
        """Close the files."""
        self._writer.close()


def open_alert_log(context: RunContext) -> AlertLog:
    """The topic in whatever log there is."""
    folder = context.settings.log.folder
    if folder is not None:
        return FileAlerts(folder)
    # Here, since who has a log of files need not wait for it.
    from dataflows.flow.drift_kafka import KafkaAlerts

    return KafkaAlerts(context)
