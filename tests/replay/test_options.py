"""What people write for a point in the log."""

from __future__ import annotations

import pytest

from dataflows.replay.options import EVERY, Moment, Offsets, OptionsError, Place, parse_place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("earliest", None),
        ("", None),
        ("12", Offsets({EVERY: 12})),
        ("orders/0=5", Offsets({"orders/0": 5})),
        ("orders/0=5, a.b-c/11=0", Offsets({"orders/0": 5, "a.b-c/11": 0})),
        ("1970-01-02", Moment(86_400_000_000)),
        ("1970-01-02T01:00:00.000001Z", Moment(90_000_000_001)),
        ("1970-01-02T01:00:00+01:00", Moment(86_400_000_000)),
        ("1970-01-02 00:00", Moment(86_400_000_000)),
    ],
)
def test_places(text: str, place: Place) -> None:
    """Times count as UTC unless they name a zone; a number is meant for all partitions."""
    assert parse_place("--from", text) == place


@pytest.mark.parametrize("text", ["orders/0", "orders=5", "orders/0=x", "-5", "tomorrow", "1.5"])
def test_what_is_no_place(text: str) -> None:
    """It is refused by the option's name, with what to write."""
    with pytest.raises(OptionsError, match=r"--to .* is no point in the log: give a time"):
        parse_place("--to", text)


def test_offsets_of_partitions() -> None:
    """One for all is that of each; others are of those that they name."""
    assert Offsets({EVERY: 7}).of("orders/3") == 7
    assert Offsets({"orders/0": 5}).of("orders/0") == 5
    assert Offsets({"orders/0": 5}).of("orders/1") is None
