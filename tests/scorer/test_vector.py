"""The pure part: what a row's inputs become, and which schemas cannot be served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.feast_bytes import encode_value
from scorer.errors import ConfigurationError, InvalidRequestError
from scorer.online_store import Cells
from scorer.vector import MissingReason, VectorFiller, Vectors
from scorer.vector_plan import CheckedRows, Scalar, check_rows, plan_vector
from tests.scorer.shop import NOON_US, ROW, SCHEMA, TTL_SECONDS, VECTOR, feast_key, schema_with

PLAN = plan_vector(SCHEMA)
TTL_US = int(TTL_SECONDS * 1e6)


Times = tuple[int | None, int | None]
Values = tuple[float | None, int | None, float | None]
Asked = tuple[float | None, int | None]
TIME = st.none() | st.integers(NOON_US - 2 * TTL_US, NOON_US + TTL_US)


def fill(rows: CheckedRows, stored: list[tuple[Times, Values]]) -> Vectors:
    """The vectors of rows whose card and route the store has so."""
    found = {}
    for number, (times, values) in enumerate(stored):
        card, route = (asked[number] for asked in rows.wanted)
        spent, visits, delay = values
        if card is not None:
            cells = [encode_value("float64", spent), encode_value("int64", visits)]
            found[card] = Cells(times[0], [None, None] if times[0] is None else cells)
        if route is not None:
            found[route] = Cells(times[1], [encode_value("float64", delay)])
    at_us = [NOON_US] * len(rows.given)
    return VectorFiller().fill(PLAN, rows.given, rows.wanted, found, at_us)


def test_one_read_for_each_entity_of_a_view() -> None:
    """Features of one view and entity are read together, under Feast's key."""
    ((card,), (route,)) = check_rows(PLAN, 0, [ROW]).wanted
    assert card is not None
    assert route is not None
    assert (card.view, card.features) == ("card_1h", ("spent", "visits"))
    assert card.entity_key == feast_key({"card": 42})
    assert route.entity_key == feast_key({"origin": "JFK", "dest": "LAX"})


@given(
    st.lists(
        st.tuples(
            st.tuples(TIME, TIME),
            st.tuples(
                st.none() | st.floats(-9, 9),
                st.none() | st.integers(-(2**40), 2**40),
                st.none() | st.floats(-9, 9),
            ),
            st.tuples(st.none() | st.floats(-9, 9), st.none() | st.integers(-9, 9)),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_vectors_equal_a_field_by_field_reading(
    rows: list[tuple[Times, Values, Asked, bool]],
) -> None:
    """Each place holds its value, or its default, and then ``missing`` has it, and why."""
    given: list[dict[str, Scalar]] = [
        {
            **ROW,
            "card": number if has_card else None,
            "dest": f"d{number}",
            "amount": asked[0],
            "items": asked[1],
        }
        for number, (_, _, asked, has_card) in enumerate(rows)
    ]
    vectors = fill(check_rows(PLAN, 0, given), [(times, values) for times, values, _, _ in rows])
    for number, (times, values, asked, has_card) in enumerate(rows):
        card_us = times[0] if has_card else None
        is_fresh = times[1] is not None and NOON_US - times[1] <= TTL_US
        no_card = MissingReason.NO_ROW if has_card else MissingReason.NULL_INPUT
        no_route = MissingReason.NO_ROW if times[1] is None else MissingReason.EXPIRED
        null = MissingReason.NULL_VALUE
        expected: list[tuple[float | None, MissingReason]] = [
            (asked[0], MissingReason.NULL_INPUT),
            (asked[1], MissingReason.NULL_INPUT),
            (1.0, null),
            (values[0], null) if card_us is not None else (None, no_card),
            (values[1], null) if card_us is not None else (None, no_card),
            (values[2], null) if is_fresh else (None, no_route),
        ]
        assert vectors.missing[number] == tuple(
            (place, reason) for place, (value, reason) in enumerate(expected) if value is None
        )
        assert vectors.values[number].tolist() == [
            default if value is None else value
            for (value, _), default in zip(expected, SCHEMA.defaults, strict=True)
        ]
        used = [one for one in (card_us, times[1] if is_fresh else None) if one is not None]
        assert vectors.oldest_us[number] == min(used, default=None)
        assert vectors.newest_us[number] == max(used, default=None)


def test_rows_do_not_share_their_vectors() -> None:
    """Filling rows twice never changes vectors that were handed out."""
    rows = check_rows(PLAN, 0, [ROW])
    first = fill(rows, [((NOON_US, NOON_US), (10.25, 4, 7.5))])
    second = fill(rows, [((None, None), (None, None, None))])
    assert first.values.tolist() == [VECTOR]
    assert second.values.tolist() == [[*VECTOR[:3], *SCHEMA.defaults[3:]]]


@given(
    st.dictionaries(
        st.sampled_from([*ROW, "other"]),
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    )
)
def test_any_inputs_are_accepted_or_refused_by_name(inputs: dict[str, Scalar]) -> None:
    """Whatever a row holds, the outcome is a row to score or an InvalidRequestError."""
    try:
        rows = check_rows(PLAN, 3, [{**ROW, **inputs}])
    except InvalidRequestError as error:
        named = str(error).startswith("rows[3]: ")
    else:
        named = len(rows.wanted) == 2 and len(rows.given) == 1
    assert named


@pytest.mark.parametrize(
    ("position", "change"),
    [
        (3, {"join_key_types": ("float64",)}),
        (5, {"join_keys": ("origin", "origin")}),
    ],
)
def test_a_schema_that_cannot_be_served_is_refused(
    position: int, change: dict[str, object]
) -> None:
    """Impossible entity keys are found when the model is loaded."""
    with pytest.raises(ConfigurationError, match="field"):
        plan_vector(schema_with(position, **change))
