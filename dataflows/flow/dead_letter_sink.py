"""Bad records: each topic's go to ``TOPIC.dlq``, once, with where they stood and what is wrong."""

from __future__ import annotations

from typing import Protocol

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from contracts.plan import Plan
from dataflows.batches import DeadLetter
from dataflows.flow.run_context import RunContext
from dataflows.flow.waiting import teller
from dataflows.sources.dead_letters import FileDeadLetters


class DeadLetters(Protocol):
    """The dead-letter topic of one topic, which knows what it holds already."""

    def append(self, letters: list[DeadLetter]) -> None:
        """Append those that are not there yet; raise LogError."""
        ...

    def snapshot(self) -> int:
        """All appended is durable; give what ``open_dead_letters`` needs to go on from here."""
        ...

    def close(self) -> None:
        """Let go of the topic."""
        ...


class DeadLetterSink(FixedPartitionedSink[DeadLetter, int]):
    """One partition per topic."""

    def __init__(self, plan: Plan, context: RunContext) -> None:
        self._topics = [topic.name for topic in plan.topics]
        self._context = context

    def list_parts(self) -> list[str]:
        """Names of the topics."""
        return self._topics

    def part_fn(self, item_key: str) -> int:
        """The topic's place in the sorted list of names."""
        return self._topics.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> DeadLetterPart:
        """The dead letters of one topic."""
        return DeadLetterPart(
            open_dead_letters(for_part, resume_state, self._context), self._context
        )


class DeadLetterPart(StatefulSinkPartition[DeadLetter, int]):
    """Appends to the dead letters of one topic."""

    def __init__(self, letters: DeadLetters, context: RunContext) -> None:
        self._letters = letters
        self._context = context

    def write_batch(self, values: list[DeadLetter]) -> None:
        """Append those that are not there yet: crashes and replays bring letters again."""
        self._letters.append(values)

    def snapshot(self) -> int:
        """Where to look for letters of an epoch that will have been lost."""
        return self._letters.snapshot()

    def close(self) -> None:
        """Close the topic."""
        with self._context.noting_failure():
            self._letters.close()


def open_dead_letters(topic: str, resume_state: int | None, context: RunContext) -> DeadLetters:
    """The dead letters of ``topic`` in whatever log there is."""
    settings = context.settings
    if settings.log.folder is not None:
        return FileDeadLetters(settings.log.folder, topic)
    from dataflows.sources.kafka_dead_letters import KafkaDeadLetters

    tell = teller(context, f"dead letters of {topic}")
    return KafkaDeadLetters(settings, topic, resume_state, context.stop, tell)
