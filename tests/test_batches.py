"""Rows on their way to another process take along what they have, and no more."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from dataflows.batches import KeyedRows, ViewRows
from dataflows.windows.inputs import KeyList, TextList
from dataflows.windows.view_state import Rows

KNOWN = 100_000
KEYS = [f"entity {i:08}".encode() for i in range(KNOWN)]
TEXTS = [f"text {i:08}" for i in range(KNOWN)]
CODES = np.array([70_000, 3, 70_000, 99_999])
# The second column is text.
VALUES = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, 80_000.0], [np.nan, 5.0]])


def _keyed(text_columns: tuple[int, ...] | None) -> KeyedRows:
    times = np.arange(4)
    return KeyedRows(
        KeyList(KEYS), CODES, times, times + 10, times + 20, VALUES, TextList(TEXTS), text_columns
    )


def _texts(values: np.ndarray, texts: list[str]) -> list[str | None]:
    return [None if np.isnan(code) else texts[int(code)] for code in values[:, 1]]


def test_keyed_rows_are_the_same_elsewhere() -> None:
    """Keys, texts, times and numbers of rows are the same after the way, in shorter lists."""
    sent = _keyed((1,))
    packed = pickle.dumps(sent)
    come: KeyedRows = pickle.loads(packed)
    assert len(packed) < 2_000
    assert [come.keys.keys[code] for code in come.codes] == [KEYS[code] for code in CODES]
    assert _texts(come.values, come.texts.texts) == _texts(VALUES, TEXTS)
    np.testing.assert_array_equal(come.values[:, 0], VALUES[:, 0])
    for name in ("effective_us", "ranks", "event_us"):
        np.testing.assert_array_equal(getattr(come, name), getattr(sent, name))
    assert (len(come.keys.keys), len(come.texts.texts)) == (3, 2)


def test_what_was_sent_stays_as_it_is() -> None:
    """Sending rows changes nothing in them: they may go to several places."""
    sent = _keyed((1,))
    pickle.dumps(sent)
    assert sent.values is VALUES
    assert VALUES[2, 1] == 80_000.0
    assert sent.codes is CODES


@pytest.mark.parametrize(("columns", "texts"), [(None, KNOWN), ((), 0)])
def test_texts_of_columns_that_nobody_named(columns: tuple[int, ...] | None, texts: int) -> None:
    """Where no columns are named all texts go along; where there are none, no text does."""
    come: KeyedRows = pickle.loads(pickle.dumps(_keyed(columns)))
    np.testing.assert_array_equal(come.values, VALUES)
    assert len(come.texts.texts) == texts


def test_view_rows_are_the_same_elsewhere() -> None:
    """Entities, stamps, numbers and texts of a shard's new rows are the same after the way."""
    stamps_us = np.arange(4)
    sent = ViewRows(KEYS, Rows(CODES, stamps_us, VALUES), TEXTS, (1,))
    packed = pickle.dumps(sent)
    come: ViewRows = pickle.loads(packed)
    assert len(packed) < 2_000
    assert [come.keys[slot] for slot in come.rows.slots] == [KEYS[code] for code in CODES]
    assert _texts(come.rows.values, come.texts) == _texts(VALUES, TEXTS)
    np.testing.assert_array_equal(come.rows.stamps_us, stamps_us)


def test_no_rows_are_no_rows_elsewhere() -> None:
    """Rows of nothing go as well."""
    none = np.empty(0, np.int64)
    sent = KeyedRows(KeyList(KEYS), none, none, none, none, np.empty((0, 2)), TextList(TEXTS), (1,))
    come: KeyedRows = pickle.loads(pickle.dumps(sent))
    assert (len(come.codes), come.keys.keys, come.texts.texts) == (0, [], [])
    assert come.values.shape == (0, 2)


def test_joined_rows_follow_each_other() -> None:
    """Parts of one view that have their keys and texts in common are as one; one part is it."""
    one = _keyed((1,))
    keys, texts = one.keys, one.texts
    other = KeyedRows(
        keys, CODES[:2], CODES[:2] + 1, CODES[:2] + 2, CODES[:2] + 3, VALUES[:2], texts, (1,)
    )
    assert KeyedRows.join([one]) is one
    joined = KeyedRows.join([one, other])
    assert joined.keys is keys
    assert joined.texts is texts
    assert joined.text_columns == (1,)
    for name in ("codes", "effective_us", "ranks", "event_us", "values"):
        parts = np.concatenate([getattr(one, name), getattr(other, name)])
        np.testing.assert_array_equal(getattr(joined, name), parts)
