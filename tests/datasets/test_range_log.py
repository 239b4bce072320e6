"""A range of the log is read as it was, or refused with what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from contracts.log import PartitionReader
from dataflows.datasets.errors import DatasetError
from dataflows.datasets.manifest import LogRange, PartitionRange
from dataflows.datasets.range_log import RangeLog
from dataflows.sources.plan_log import LogPartition


@dataclass
class Bounds:
    """A log of which only the bounds are known: what a broker says before anything is read."""

    places: dict[tuple[str, int], tuple[int, int]]
    topic_ids: dict[str, str] = field(default_factory=lambda: {"a": "id of a"})
    kind: str = "kafka"
    opened: list[tuple[str, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Number the partitions."""
        places = enumerate(sorted(self.places))
        self.partitions = [LogPartition(number, *place) for number, place in places]

    def begins(self) -> dict[int, int]:
        """As ``PlanLog``."""
        return {p.number: self.places[p.topic, p.partition][0] for p in self.partitions}

    def ends(self) -> dict[int, int]:
        """As ``PlanLog``."""
        return {p.number: self.places[p.topic, p.partition][1] for p in self.partitions}

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """Note where it is opened."""
        self.opened.append((partition.name, offset))
        return cast("PartitionReader", None)

    def settle(self) -> None:
        """As ``PlanLog``."""

    def close(self) -> None:
        """As ``PlanLog``."""


WANTED = LogRange(
    "kafka",
    (PartitionRange("a", 0, 5, 20), PartitionRange("b", 1, 0, 3)),
    {"a": "id of a"},
)


def test_all_that_there_is() -> None:
    """Without a wish the range is what the log holds now."""
    log = Bounds({("a", 0): (5, 20), ("b", 1): (0, 3)})
    assert RangeLog(log, None).range == WANTED


def test_the_same_range_of_a_log_that_has_grown() -> None:
    """Later records and partitions are left out, though they move the numbers of partitions.

    What an archive has before the range is left out too.
    """
    log = Bounds({("a", 0): (0, 99), ("a", 1): (7, 9), ("b", 0): (0, 1), ("b", 1): (0, 3)})
    found = RangeLog(log, WANTED)
    assert found.range == WANTED
    assert found.begins() == {0: 5, 1: 7, 2: 0, 3: 0}
    assert found.ends() == {0: 20, 1: 7, 2: 0, 3: 3}
    found.open(found.partitions[0], None)
    found.open(found.partitions[0], 11)
    assert log.opened == [("a/0", 5), ("a/0", 11)]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            Bounds({("a", 0): (6, 20), ("b", 1): (0, 3)}),
            r"holds a/0 from offset 6 on only, the data set begins at 5: .* retention",
        ),
        (
            Bounds({("a", 0): (5, 19), ("b", 1): (0, 3)}),
            "a/0 ends at offset 19, the data set at 20",
        ),
        (Bounds({("a", 0): (5, 20)}), "no partition b/1 any more"),
        (
            Bounds({("a", 0): (5, 20), ("b", 1): (0, 3)}, {"a": "another"}),
            "topic 'a' was made anew",
        ),
        (
            Bounds({("a", 0): (5, 20), ("b", 1): (0, 3)}, kind="file"),
            "of a log of kind kafka, but HEADWATER_LOG_URL names one of kind file",
        ),
    ],
    ids=["retention", "cut", "partition", "topic", "kind"],
)
def test_what_is_gone_is_named(log: Bounds, said: str) -> None:
    """A range that the log does not hold any more is refused before anything is read."""
    with pytest.raises(DatasetError, match=said):
        RangeLog(log, WANTED)


def test_ids_that_nobody_gave() -> None:
    """Brokers that give no ids of topics, then or now, are believed."""
    log = Bounds({("a", 0): (5, 20), ("b", 1): (0, 3)}, {})
    assert RangeLog(log, WANTED).ends() == {0: 20, 1: 3}
