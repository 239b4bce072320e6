"""What a whole log should give, computed record by record with the brute-force oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contracts.plan import Plan, View
from tests.flow.shop import Record
from tests.windows.oracle import Entity, Event, Value


@dataclass(frozen=True)
class Known:
    """A good record with the time at which it takes effect, and its place in the order."""

    topic: str
    effective_us: int
    order: int
    fields: dict[str, Any]


def known_records(plan: Plan, records: Sequence[Record]) -> list[Known]:
    """All good records; ``records`` are in the order of writing."""
    newest_us: dict[tuple[str, int], int] = {}
    found = []
    for number, record in enumerate(records):
        if record.fields is None:
            continue
        place = record.topic, record.partition
        event_us = record.fields["event_us"]
        delay_us = plan.topic(record.topic).watermark_delay_us
        effective_us = max(event_us, newest_us.get(place, event_us) - delay_us)
        newest_us[place] = max(event_us, newest_us.get(place, event_us))
        # Only records of one topic are ever compared: by partition, then by place in it.
        order = record.partition * 1_000_000 + number
        found.append(Known(record.topic, effective_us, order, record.fields))
    return found


class ViewOracle:
    """All entities of a view after a log."""

    def __init__(self, view: View, records: Sequence[Known]) -> None:
        self._view = view
        events: dict[tuple[Any, ...], list[Event]] = {}
        for record in records:
            key = self.key(record)
            if record.topic == view.topic and key is not None:
                values = {a.column: _cell(record.fields[a.column]) for a in view.aggregates}
                event = Event(record.fields["event_us"], record.effective_us, record.order, values)
                events.setdefault(key, []).append(event)
        self._entities = {key: Entity(view, own) for key, own in events.items()}

    def key(self, record: Known) -> tuple[Any, ...] | None:
        """The entity of a record; None if a part of its key is null."""
        parts = tuple(record.fields.get(name) for name in self._view.join_keys)
        return None if None in parts else parts

    def rows(self, up_to_us: int) -> list[tuple[Any, ...]]:
        """(entity key parts, stamp, values) of every row for the offline store."""
        found: list[tuple[Any, ...]] = []
        for key, entity in self._entities.items():
            found += [(key, stamp, values) for stamp, values in entity.rows(up_to_us)]
        return found

    def last_rows(self, up_to_us: int) -> list[tuple[Any, ...]]:
        """The same for the online store: the newest row of each entity."""
        newest = {key: (stamp, values) for key, stamp, values in self.rows(up_to_us)}
        return [(key, stamp, values) for key, (stamp, values) in newest.items()]

    def read(self, record: Known) -> list[Value]:
        """What the record sees of its entity when it takes effect."""
        key = self.key(record)
        if key is None or key not in self._entities:
            return [None] * len(self._view.aggregates)
        return self._entities[key].read(record.effective_us)


def _cell(value: Any) -> Value:
    return value if value is None or isinstance(value, str) else float(value)
