"""Columns of a batch as the state of a view takes them: numbers, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.plan import ColumnType, View
from dataflows.hashing import hash_integers, hash_numbers, hash_texts
from dataflows.key_numbers import TextNumbers
from dataflows.packed_columns import is_there, values_at
from dataflows.windows.inputs import Input, TextList, input_of, inputs_of

Floats = npt.NDArray[np.float64]

# Distinct strings of one view that a worker remembers, and what they may come to together; past
# either it starts anew. A shard's state has eight bytes for each of them, strings of other shards
# too, which is why these are fewer than the keys.
TEXT_CACHE_ENTRIES_MAX = 100_000
TEXT_CACHE_CHARACTERS_MAX = 32_000_000


class TextEncoder:
    """Strings as places in a list, remembered between batches.

    Attributes:
        texts: the list; ``forget_if_many`` may put a new one in its place.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.texts = TextList()
        self._numbers = TextNumbers()
        self._characters = 0

    def forget_if_many(self) -> None:
        """Start a new list if this one has become long. Codes of one batch are of one list."""
        is_long = len(self.texts.texts) > TEXT_CACHE_ENTRIES_MAX
        if is_long or self._characters > TEXT_CACHE_CHARACTERS_MAX:
            self._forget()

    def encode(self, values: Sequence[str | None]) -> Floats:
        """float64[n]: the place of each string, NaN for None."""
        numbers, new = self._numbers.of(values)
        if len(new):
            texts = values_at(values, new)
            self._characters += sum(map(len, texts))
            self.texts.texts.extend(texts)
        return np.where(numbers >= 0, numbers.astype(np.float64), np.nan)


class InputEncoder:
    """What rows bring to one view: a column for each of ``inputs_of(view)``.

    Attributes:
        text_columns: which of them are text.
    """

    def __init__(self, view: View) -> None:
        self._types = {input_of(one): one.column_type for one in view.aggregates}
        self._inputs = inputs_of(view)
        self._texts = TextEncoder()
        self.text_columns = tuple(i for i, one in enumerate(self._inputs) if one.kind == "text")
        if ("hash", "string") in {(one.kind, kind) for one, kind in self._types.items()}:
            # Its loop is compiled now, and not when the first record has come.
            hash_texts([""])

    @property
    def texts(self) -> TextList:
        """What the codes of the batch before index."""
        return self._texts.texts

    def encode(self, columns: Mapping[str, Any], count: int, shared: dict[Input, Floats]) -> Floats:
        """float64[count, C], NaN for null.

        Args:
            columns: as ``Decoded.columns``, of ``count`` rows.
            count: number of rows.
            shared: what was worked out of the same columns for other views; is added to.
        """
        self._texts.forget_if_many()
        values = np.empty((count, len(self._inputs)))
        for place, one in enumerate(self._inputs):
            if one.kind == "text":
                values[:, place] = self._texts.encode(columns[one.column])
                continue
            numbers = shared.get(one)
            if numbers is None:
                numbers = shared[one] = _numbers(one, self._types[one], columns[one.column])
            values[:, place] = numbers
        return values


def _numbers(one: Input, kind: ColumnType, column: Any) -> Floats:
    """An input that is no text; ``column`` is as in ``Decoded.columns``."""
    if one.kind == "presence":
        return np.where(is_there(column), 1.0, np.nan)
    if one.kind == "number":
        return np.asarray(column, dtype=np.float64)
    if kind == "string":
        return hash_texts(column)
    return hash_integers(column) if kind == "int64" else hash_numbers(column)
