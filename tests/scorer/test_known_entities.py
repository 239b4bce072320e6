"""Keys of entities are made once and known from then on; rows get the same as if they were not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.feast_bytes import entity_key
from scorer import vector_plan
from scorer.online_store import Wanted
from scorer.vector_plan import GoodInputs, Scalar, check_rows, plan_vector
from tests.scorer.shop import ROW, SCHEMA

PLAN = plan_vector(SCHEMA)
CARDS = st.one_of(st.none(), st.integers(0, 6), st.integers(-(2**63), 2**63 - 1))
ORIGINS = st.one_of(st.none(), st.text(max_size=3), st.just("x" * 1_000))


def expected(row: dict[str, Scalar]) -> list[Wanted | None]:
    """What is wanted for a row, its keys made by Feast's rule."""
    found: list[Wanted | None] = []
    for read in PLAN.reads:
        names = PLAN.keys[read.key].join_keys
        kinds = [PLAN.input_types[name][0] for name in names]
        values = [row[name] for name in names]
        if None in values:
            found.append(None)
        else:
            found.append(Wanted(read.source, entity_key(names, kinds, values)))  # type: ignore[arg-type]
    return found


@given(st.lists(st.tuples(CARDS, ORIGINS), min_size=1, max_size=12))
def test_known_entities_are_those_that_were_asked_for(pairs: list[tuple[Scalar, Scalar]]) -> None:
    """However often entities recur, and whatever is kept of them, each row wants its own."""
    rows: list[dict[str, Scalar]] = [
        {**ROW, "card": card, "origin": origin} for card, origin in pairs
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_plan, "_KNOWN_MAX", 3)
        checked = check_rows(PLAN, 0, rows)
        assert [list(one) for one in zip(*checked.wanted, strict=True)] == list(map(expected, rows))
        for key in PLAN.keys:
            assert len(key.known) <= 3
            assert all(len(str(name)) < 1_000 for name in key.known)


@pytest.mark.parametrize("amount", [1.5, 7, 2**53 + 1])
def test_good_inputs_give_what_others_give(amount: float) -> None:
    """Rows whose inputs were checked while they were read become the same numbers."""
    row = {**ROW, "amount": amount}
    good, plain = check_rows(PLAN, 0, [GoodInputs(row)] * 2), check_rows(PLAN, 0, [row] * 2)
    assert [list(map(float, one)) for one in good.given] == [list(one) for one in plain.given]
    assert good.wanted == plain.wanted
