"""The pure part: what a row's inputs become, and which schemas cannot be served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.errors import ConfigurationError, InvalidRequestError
from scorer.online_store import Found
from scorer.vector import Scalar, check_row, fill_row, plan_vector
from tests.scorer.shop import NOON_US, ROW, SCHEMA, TTL_SECONDS, VECTOR, feast_key, schema_with

PLAN = plan_vector(SCHEMA)
TTL_US = int(TTL_SECONDS * 1e6)


def test_one_read_for_each_entity_of_a_view() -> None:
    """Features of one view and entity are read together, under Feast's key."""
    card, route = check_row(PLAN, 0, ROW).wanted
    assert card is not None
    assert route is not None
    assert (card.view, card.features) == ("card_1h", ("spent", "visits"))
    assert card.entity_key == feast_key({"card": 42})
    assert route.entity_key == feast_key({"origin": "JFK", "dest": "LAX"})


@given(
    times=st.tuples(*[st.none() | st.integers(NOON_US - 2 * TTL_US, NOON_US + TTL_US)] * 2),
    values=st.tuples(*[st.none() | st.floats(-9, 9)] * 3),
    requests=st.tuples(st.none() | st.floats(-9, 9), st.none() | st.integers(-9, 9)),
)
def test_the_vector_equals_a_field_by_field_reading(
    times: tuple[int | None, ...],
    values: tuple[float | None, ...],
    requests: tuple[float | None, int | None],
) -> None:
    """Each place holds its value, or its default, and then its position is in ``missing``."""
    row = check_row(PLAN, 0, {**ROW, "amount": requests[0], "items": requests[1]})
    found = [Found(times[0], list(values[:2])), Found(times[1], [values[2]])]
    vector = fill_row(PLAN, row, found, NOON_US)
    fresh = times[1] is not None and NOON_US - times[1] <= TTL_US
    expected = [
        *requests,
        1.0,
        *(value if times[0] is not None else None for value in values[:2]),
        values[2] if fresh else None,
    ]
    assert vector.missing == tuple(i for i, value in enumerate(expected) if value is None)
    assert vector.values == [
        default if value is None else value
        for value, default in zip(expected, SCHEMA.defaults, strict=True)
    ]
    used = [t for t, is_used in ((times[0], True), (times[1], fresh)) if is_used and t is not None]
    assert (vector.oldest_us, vector.newest_us) == (
        min(used, default=None),
        max(used, default=None),
    )


def test_rows_do_not_share_their_vectors() -> None:
    """Filling a row twice, or two rows, never changes a vector that was handed out."""
    row = check_row(PLAN, 0, ROW)
    full = [Found(NOON_US, [10.25, 4.0]), Found(NOON_US, [7.5])]
    first = fill_row(PLAN, row, full, NOON_US)
    second = fill_row(PLAN, row, [None, None], NOON_US)
    assert first.values == VECTOR
    assert second.values == [*VECTOR[:3], *SCHEMA.defaults[3:]]


@given(
    st.dictionaries(
        st.sampled_from([*ROW, "other"]),
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    )
)
def test_any_inputs_are_accepted_or_refused_by_name(inputs: dict[str, Scalar]) -> None:
    """Whatever a row holds, the outcome is a row to score or an InvalidRequestError."""
    try:
        row = check_row(PLAN, 3, {**ROW, **inputs})
    except InvalidRequestError as error:
        named = str(error).startswith("rows[3]: ")
    else:
        named = len(row.wanted) == 2 and len(row.base) == len(SCHEMA.fields)
    assert named


@pytest.mark.parametrize(
    ("position", "change"),
    [
        (0, {"dtype": "string"}),
        (3, {"dtype": "string"}),
        (3, {"join_key_types": ("float64",)}),
        (5, {"join_keys": ("origin", "origin")}),
    ],
)
def test_a_schema_that_cannot_be_served_is_refused(
    position: int, change: dict[str, object]
) -> None:
    """Text in the vector and impossible entity keys are found when the model is loaded."""
    with pytest.raises(ConfigurationError, match="field"):
        plan_vector(schema_with(position, **change))
