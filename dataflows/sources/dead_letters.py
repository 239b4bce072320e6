"""Dead letters in the file log: ``TOPIC.dlq``, one JSON object a letter."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from contracts.file_log import FileLogWriter
from dataflows.batches import DeadLetter


class FileDeadLetters:
    """The dead letters of one topic; what they hold is read once, at the start."""

    def __init__(self, folder: Path, topic: str) -> None:
        """The file log in ``folder``; raise LogError if it cannot be written."""
        self._writer = FileLogWriter(folder, f"{topic}.dlq")
        self._written = 0
        lines = self._writer.lines()
        self._known = {origin for line in lines if (origin := _origin(line)) is not None}

    def append(self, letters: list[DeadLetter]) -> None:
        """Append those that are not there yet."""
        lines = [(str(letter.partition), _as_json(letter)) for letter in letters]
        new = [(key, line) for key, line in lines if _origin(line) not in self._known]
        self._known.update(origin for _, line in new if (origin := _origin(line)) is not None)
        self._written += self._writer.append(new)

    def snapshot(self) -> int:
        """How many this process has written; what counts stands in the topic itself."""
        return self._written

    def close(self) -> None:
        """Close the files."""
        self._writer.close()


def _origin(line: bytes) -> int | None:
    """A number for the record that a letter is about; None for a line that is no letter."""
    try:
        letter = json.loads(line)
        record = letter.get("record", letter.get("record_base64"))
        return hash((letter["partition"], letter["offset"], record))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _as_json(letter: DeadLetter) -> bytes:
    content: dict[str, str | int] = {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
    }
    try:
        content["record"] = letter.record.decode()
    except UnicodeDecodeError:
        content["record_base64"] = b64encode(letter.record).decode()
    return json.dumps(content).encode()
