"""What the comparison with peers believes: results are held against each engine's own windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.peers.check import WrongResultsError, check
from benchmarks.peers.results import EachEvent
from benchmarks.peers.tiles import CardTiles, to_micros
from benchmarks.peers.workload import (
    FEATURES,
    WINDOWS,
    Events,
    card_name,
    make_events,
    write_events,
)

MINUTE_US = 60_000_000
# 2025-06-16 00:00 UTC, where tiles of all windows begin.
MIDNIGHT_US = 1_750_032_000_000_000
# One card: at 0:00, 0:09:30, 0:10:30 and 2:00; another at 0:10 and, just too old for the ten
# minutes that end at 2:00, at 1:50:30.
TIMES_US = np.array([0, 9.5, 10, 10.5, 110.5, 120]) * MINUTE_US + MIDNIGHT_US
EVENTS = Events(
    np.array([7, 7, 8, 7, 8, 7]),
    TIMES_US.astype(np.int64),
    np.array([1.0, 2.0, 50.0, 4.0, 16.0, 8.0]),
)


def _keep(folder: Path, kind: str, columns: dict[str, Any]) -> None:
    pq.write_table(pa.table(columns), folder / f"{kind}.parquet")


def _rows(kind: str) -> dict[str, Any]:
    """Results by hand, in the order of the events; of ``at_end`` in the order of the cards."""
    if kind == "at_end":
        rows = {
            "count_10m": [1, 0],
            "sum_10m": [8.0, None],
            "max_10m": [8.0, None],
            "count_1h": [1, 1],
            "sum_1h": [8.0, 16.0],
            "max_1h": [8.0, 16.0],
            "count_24h": [4, 2],
            "sum_24h": [15.0, 66.0],
            "max_24h": [8.0, 50.0],
        }
        return {"card": [card_name(7), card_name(8)], **rows}
    # At 0:10:30 tiles of a minute begin at 0:01 and a window exactly at 0:00:30: without 0:00.
    rows = {
        "count_10m": [1, 2, 1, 2, 1, 1],
        "sum_10m": [1.0, 3.0, 50.0, 6.0, 16.0, 8.0],
        "max_10m": [1.0, 2.0, 50.0, 4.0, 16.0, 8.0],
        "count_1h": [1, 2, 1, 3, 1, 1],
        "sum_1h": [1.0, 3.0, 50.0, 7.0, 16.0, 8.0],
        "max_1h": [1.0, 2.0, 50.0, 4.0, 16.0, 8.0],
        "count_24h": [1, 2, 1, 3, 2, 4],
        "sum_24h": [1.0, 3.0, 50.0, 7.0, 66.0, 15.0],
        "max_24h": [1.0, 2.0, 50.0, 4.0, 50.0, 8.0],
    }
    cards = [card_name(number) for number in EVENTS.cards.tolist()]
    return {"card": cards, "time_us": EVENTS.times_us, **rows}


@pytest.mark.parametrize(
    "kind", ["at_end", "each_event_hops", "each_event_open", "each_event_closed"]
)
def test_rows_that_are_right_are_equal(tmp_path: Path, kind: str) -> None:
    """Rows worked out by hand are found equal, in whatever order they come."""
    columns = {name: list(column)[::-1] for name, column in _rows(kind).items()}
    _keep(tmp_path, kind, columns)
    assert check(kind, tmp_path, EVENTS) == 9 * len(columns["card"])


@pytest.mark.parametrize("kind", ["at_end", "each_event_hops"])
@pytest.mark.parametrize("feature", FEATURES)
def test_a_wrong_value_is_refused(tmp_path: Path, kind: str, feature: str) -> None:
    """One value that is off by a quarter is found, whichever feature it is of."""
    columns = _rows(kind)
    columns[feature] = [columns[feature][0] + 0.25, *columns[feature][1:]]
    _keep(tmp_path, kind, columns)
    with pytest.raises(WrongResultsError):
        check(kind, tmp_path, EVENTS)


def test_a_missing_row_is_refused(tmp_path: Path) -> None:
    """An engine that loses an event is found out."""
    columns = {name: list(column)[1:] for name, column in _rows("each_event_hops").items()}
    _keep(tmp_path, "each_event_hops", columns)
    with pytest.raises(WrongResultsError, match="5 rows, not 6"):
        check("each_event_hops", tmp_path, EVENTS)


def test_ends_of_exact_windows_count(tmp_path: Path) -> None:
    """An event exactly a window's length ago is in a closed window, and not in an open one."""
    times_us = np.array([MIDNIGHT_US, MIDNIGHT_US + 10 * MINUTE_US])
    events = Events(np.array([7, 7]), times_us, np.array([1.0, 2.0]))
    row = {
        name: [1, 2] if name.startswith("count") else [1.0, 3.0 if name[:3] == "sum" else 2.0]
        for name in FEATURES
    }
    _keep(tmp_path, "each_event_closed", {"card": [card_name(7)] * 2, "time_us": times_us, **row})
    assert check("each_event_closed", tmp_path, events) == 18
    (tmp_path / "each_event_closed.parquet").rename(tmp_path / "each_event_open.parquet")
    with pytest.raises(WrongResultsError, match=r"column 2 .* is 2\.0, not 1\.0"):
        check("each_event_open", tmp_path, events)


def _each_window(events: Events) -> dict[str, list[Any]]:
    """Every window that held an event, one event and one window at a time."""
    found: dict[tuple[int, str, int], list[float]] = {}
    rows = zip(
        events.cards.tolist(), events.times_us.tolist(), events.amounts.tolist(), strict=True
    )
    for card, time_us, amount in rows:
        for window, (length, hop) in WINDOWS.items():
            hop_us = hop * 1_000_000
            start_us = time_us // hop_us * hop_us
            while start_us > time_us - length * 1_000_000:
                found.setdefault((card, window, start_us), []).append(amount)
                start_us -= hop_us
    return {
        "card": [card_name(card) for card, _, _ in found],
        "window": [window for _, window, _ in found],
        "start_us": [start_us for _, _, start_us in found],
        "count": [len(amounts) for amounts in found.values()],
        "sum": [sum(amounts) for amounts in found.values()],
        "max": [max(amounts) for amounts in found.values()],
    }


def test_windows_that_close_are_compared(tmp_path: Path) -> None:
    """Windows counted one by one are found equal, and one that is wrong is refused."""
    events = make_events(300, 5)
    columns = _each_window(events)
    _keep(tmp_path, "each_window", columns)
    assert check("each_window", tmp_path, events) == 3 * len(columns["card"])
    columns["max"][17] += 1
    _keep(tmp_path, "each_window", columns)
    with pytest.raises(WrongResultsError):
        check("each_window", tmp_path, events)


def test_tiles_by_hand_are_right(tmp_path: Path) -> None:
    """The tiles in dicts, which two engines use, give what a computation from scratch gives."""
    events = make_events(2_000, 20)
    source = tmp_path / "events.ndjson"
    write_events(events, source)
    results, cards = EachEvent(), dict[int, CardTiles]()
    rows = zip(
        events.cards.tolist(), events.times_us.tolist(), events.amounts.tolist(), strict=True
    )
    for card, time_us, amount in rows:
        values = cards.setdefault(card, CardTiles()).add(time_us, amount)
        results.add(card_name(card), time_us, values)
    results.write(tmp_path / "each_event_hops.parquet")
    assert check("each_event_hops", tmp_path, events) == 9 * 2_000


def test_times_survive_as_text() -> None:
    """A time of an event, to the millisecond, is read back as it was."""
    assert to_micros("2025-06-16T00:00:00.045Z") == MIDNIGHT_US + 45_000
