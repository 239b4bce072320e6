"""Columns of a batch as the numbers that the state of a view takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.plan import Aggregate, AggregateFunction, ColumnType, View
from dataflows import encoding
from dataflows.encoding import InputEncoder, TextEncoder
from dataflows.hashing import hash_integers, hash_numbers, hash_texts
from dataflows.windows.inputs import Input, inputs_of

_TEXTS = st.one_of(st.none(), st.text(max_size=2))
_ROWS = st.lists(
    st.tuples(
        _TEXTS,
        _TEXTS,
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        st.one_of(st.none(), st.floats(allow_nan=False)),
    ),
    max_size=20,
)
_KINDS: dict[str, ColumnType] = {
    "name": "string", "shop": "string", "n": "int64", "x": "float64",
}  # fmt: skip
_FUNCTIONS: list[tuple[AggregateFunction, str]] = [
    ("last", "shop"), ("count_distinct", "name"), ("sum", "x"), ("count", "name"), ("max", "n"),
    ("first", "name"), ("count_distinct", "n"), ("latest", "shop"), ("count_distinct", "x"),
    ("count", "x"),
]  # fmt: skip


def _view(functions: Sequence[tuple[AggregateFunction, str]], name: str = "v") -> View:
    aggregates = tuple(
        Aggregate(f"f{i}", "float64", column, function, 0, 0, _KINDS[column])
        for i, (function, column) in enumerate(functions)
    )
    return View(name, "t", ("k",), ("string",), aggregates, 0, "")


def _columns(rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    columns: dict[str, Any] = {
        name: [row[place] for row in rows] for place, name in enumerate(_KINDS)
    }
    return {**columns, "x": np.array(columns["x"], np.float64)}


def _plain(one: Input, value: Any, code: float, texts: Sequence[str]) -> None:
    """Check that ``code`` is what this input makes of the value."""
    if value is None:
        assert math.isnan(code)
    elif one.kind == "text":
        assert texts[int(code)] == value
        assert code == int(code)
    elif one.kind == "presence":
        assert code == 1.0
    elif one.kind == "number":
        assert code == float(value)
    elif isinstance(value, str):
        assert code == hash_texts([value])[0]
    elif isinstance(value, int):
        assert code == hash_integers([value])[0]
    else:
        assert code == hash_numbers(np.array([value]))[0]


@given(
    st.lists(_ROWS, max_size=4),
    st.lists(st.sampled_from(_FUNCTIONS), min_size=1, max_size=5, unique=True),
)
def test_inputs_are_those_of_a_plain_loop(
    batches: list[list[tuple[Any, ...]]], functions: list[tuple[AggregateFunction, str]]
) -> None:
    """Each value becomes what its input says, in the order of the inputs, batch after batch."""
    view, names = _view(functions), list(_KINDS)
    encoder = InputEncoder(view)
    for rows in batches:
        values = encoder.encode(_columns(rows), len(rows), {})
        assert values.shape == (len(rows), len(inputs_of(view)))
        assert values.dtype == np.float64
        for place, one in enumerate(inputs_of(view)):
            column = [row[names.index(one.column)] for row in rows]
            for value, code in zip(column, values[:, place].tolist(), strict=True):
                _plain(one, value, code, encoder.texts.texts)
    assert len(set(encoder.texts.texts)) == len(encoder.texts.texts)


@given(_ROWS)
def test_views_of_the_same_columns_share_what_is_not_their_own(rows: list[tuple[Any, ...]]) -> None:
    """With what another view has worked out, a view gets the same; codes of texts are its own."""
    first, second = InputEncoder(_view(_FUNCTIONS[:7])), InputEncoder(_view(_FUNCTIONS, "w"))
    alone = InputEncoder(_view(_FUNCTIONS, "w"))
    shared: dict[Input, Any] = {}
    columns, count = _columns(rows), len(rows)
    first.encode(columns, count, shared)
    assert {one.kind for one in shared} == {"number", "hash", "presence"}
    found = second.encode(columns, count, shared)
    np.testing.assert_array_equal(found, alone.encode(columns, count, {}))
    assert second.texts is not first.texts


@given(st.lists(_TEXTS, max_size=60), st.integers(1, 60))
def test_codes_of_texts_lead_back_to_them(values: list[str | None], size: int) -> None:
    """However the texts are cut, each code leads back to its own, and equal texts are one code."""
    encoder = TextEncoder()
    codes: list[float] = []
    for begin in range(0, len(values), size):
        encoder.forget_if_many()
        codes += encoder.encode(values[begin : begin + size]).tolist()
    texts = encoder.texts.texts
    assert [None if math.isnan(code) else texts[int(code)] for code in codes] == values
    assert len(texts) == len(set(values) - {None})


@pytest.mark.parametrize("bound", ["TEXT_CACHE_ENTRIES_MAX", "TEXT_CACHE_CHARACTERS_MAX"])
def test_the_cache_of_texts_is_bounded(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """With many texts, or long ones, a worker begins a new list; rows keep the one they have."""
    monkeypatch.setattr(encoding, bound, 20)
    encoder = InputEncoder(_view([("last", "name"), ("first", "shop")]))
    lists = []
    for begin in range(0, 100, 4):
        names = [f"n{i}" for i in range(begin, begin + 4)]
        shops = [f"s{i}" for i in range(begin, begin + 4)]
        values = encoder.encode({"name": names, "shop": shops}, 4, {})
        lists.append((encoder.texts, values, names, shops))
        assert len(encoder.texts.texts) <= 20 + 8
        assert sum(map(len, encoder.texts.texts)) <= 20 + 8 * 3 or "ENTRIES" in bound
    for texts, values, names, shops in lists:
        assert [texts.texts[int(code)] for code in values[:, 0]] == names
        assert [texts.texts[int(code)] for code in values[:, 1]] == shops
    assert 5 < len({id(texts) for texts, *_ in lists}) < len(lists) + 1
