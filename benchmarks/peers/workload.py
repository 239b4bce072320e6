"""The work that all engines get: card payments of two days, and nine windowed features of a card.

Events are lines of JSON of 174 bytes or so in order of time, no two at the same millisecond, so
that "up to and including this event" means the same to engines that know milliseconds only. Amounts
are whole quarters: sums are exact in any order, and "equal" means equal.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

EVENTS = 1_000_000
# For engines that would need an hour for all.
EVENTS_OF_SLOW = 100_000
CARDS = 100_000
BEGIN_MS = 1_750_032_000_000
SPAN_MS = 2 * 86_400_000
# Name -> (length, hop) in seconds.
WINDOWS = {"10m": (600, 60), "1h": (3_600, 300), "24h": (86_400, 7_200)}
FUNCTIONS = ("count", "sum", "max")
FEATURES = tuple(f"{function}_{window}" for window in WINDOWS for function in FUNCTIONS)
_MERCHANT = "m" * 38
_WRITE_LINES = 10_000


@dataclass(frozen=True)
class Events:
    """Events in order of time; all arrays have one entry for each.

    Attributes:
        cards: number of the card.
        times_us: microseconds since 1970 UTC, whole milliseconds.
        amounts: multiples of a quarter.
    """

    cards: Ints
    times_us: Ints
    amounts: Floats

    def first(self, count: int) -> Events:
        """The first so many."""
        return Events(self.cards[:count], self.times_us[:count], self.amounts[:count])


def card_name(number: int) -> str:
    """The value of ``card`` in an event."""
    return f"card-{number:06d}"


def make_events(events: int, cards: int) -> Events:
    """Always the same events for the same numbers; all cards are equally frequent."""
    generator = np.random.default_rng(2013)
    times_ms = np.sort(generator.choice(SPAN_MS, events, replace=False)) + BEGIN_MS
    numbers = generator.integers(0, cards, events)
    quarters = generator.integers(1, 400_000, events)
    return Events(numbers, times_ms * 1_000, quarters / 4)


def write_events(events: Events, path: Path) -> None:
    """One JSON object a line: ``card``, ``amount``, ``event_timestamp``, and what nobody reads."""
    columns = (events.cards.tolist(), events.times_us.tolist(), events.amounts.tolist())
    rows = zip(*columns, strict=True)
    with path.open("w", encoding="ascii") as file:
        while part := list(islice(rows, _WRITE_LINES)):
            file.writelines(_line(card, time_us, amount) for card, time_us, amount in part)


def _line(card: int, time_us: int, amount: float) -> str:
    seconds, rest_us = divmod(time_us, 1_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return (
        f'{{"card":"{card_name(card)}","amount":{amount:.2f},'
        f'"event_timestamp":"{stamp}.{rest_us // 1_000:03d}Z",'
        f'"merchant":"{_MERCHANT}","currency":"EUR","channel":"online"}}\n'
    )
