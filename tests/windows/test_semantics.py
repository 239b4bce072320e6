"""The examples of docs/semantics.md, run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from contracts.plan import Aggregate, AggregateFunction, ColumnType, View
from tests.windows.oracle import Value
from tests.windows.stream import Item, assert_equal, feature, run, view_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "semantics.md"
EXAMPLES = re.findall(r"^```example\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
# All examples are of one day.
END_US = 24 * 3_600_000_000
LINE = re.compile(
    r"(?P<time>[\d:.]+)( at (?P<at>[\d:.]+))? +(?P<what>event|read|row) +(?P<values>.+)"
)
FEATURE = re.compile(
    r"(?P<function>\w+)( (?P<window>\d+ \w+) (by (?P<hop>.+)|exact ?(?P<most>\d*)))?"
)
UNITS_US = {"h": 3_600_000_000, "min": 60_000_000}


class Line(NamedTuple):
    """What happens at a time, or is said of it."""

    what: str
    time_us: int
    effective_us: int
    values: list[Value]

    @property
    def brought(self) -> tuple[Value, ...] | None:
        """An event's values; None of a read."""
        return tuple(self.values) if self.what == "event" else None


def _time_us(text: str) -> int:
    hours, minutes, seconds = [*text.split(":"), "0"][:3]
    whole, _, part = seconds.partition(".")
    minute = int(hours) * 60 + int(minutes)
    return (minute * 60 + int(whole)) * 1_000_000 + int(part.ljust(6, "0"))


def _length_us(text: str) -> int:
    number, unit = text.split()
    return int(number) * UNITS_US[unit]


def _value(text: str) -> Value:
    if text == "null":
        return None
    return text.strip('"') if text.startswith('"') else float(text)


def _line(text: str) -> Line:
    found = LINE.fullmatch(text)
    assert found, f"cannot read {text!r}"
    time_us, effective_us = (_time_us(found[name] or found["time"]) for name in ("time", "at"))
    values = [_value(one) for one in found["values"].split(", ")]
    return Line(found["what"], time_us, effective_us, values)


def _view(text: str, *, is_text: bool) -> View:
    aggregates: list[Aggregate] = []
    exact_tiles_max = 0
    for place, one in enumerate(text.split(", ")):
        found = FEATURE.fullmatch(one)
        assert found, f"cannot read {one!r}"
        (function,) = [f for f in get_args(AggregateFunction) if f == found["function"]]
        window_us = _length_us(found["window"]) if found["window"] else 0
        hop_us = _length_us(found["hop"]) if found["hop"] else min(window_us, 1)
        if window_us and not found["hop"]:
            exact_tiles_max = int(found["most"] or 1024)
        kind: ColumnType = "string" if is_text else "float64"
        aggregates.append(feature(f"f{place}", function, window_us, hop_us, "x", kind))
    return view_of(*aggregates, exact_tiles_max=exact_tiles_max)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_true(example: str) -> None:
    """Reads, and rows if an example has any, are those of the page; the oracle says the same."""
    head, *rest = example.splitlines()
    lines = [_line(text) for text in rest]
    view = _view(head, is_text='"' in example)
    items = [
        Item(b"a", line.time_us, line.effective_us, place, line.brought)
        for place, line in enumerate(lines)
        if line.what != "row"
    ]
    items.sort(key=lambda item: item.effective_us)
    output = run(view, items, END_US)
    assert output.reads == {i: line.values for i, line in enumerate(lines) if line.what == "read"}
    rows = [(line.time_us, b"a", line.values) for line in lines if line.what == "row"]
    assert not rows or sorted(output.rows) == rows
    assert_equal(view, items, END_US, output)


def test_no_example_is_passed_over() -> None:
    """What the page calls an example is one of those that are run."""
    assert len(EXAMPLES) == PAGE.read_text("utf-8").count("```example") > 0
