"""Values of segments as small numbers, a bounded number of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contracts.evaluation_file import MISSING_VALUE, OTHER_VALUES
from dataflows.evaluation.exact_sums import Ints

VALUE_CHARACTERS_MAX = 100
ALL = 0
"""The code of all outcomes, whatever their values."""


class SegmentCodes:
    """Of each segment the first values to come have codes of their own, all others share one.

    Codes of a segment stand together: those without a value, the others, and then the values in
    order of coming.
    """

    def __init__(self, segments: Sequence[str], values_max: int) -> None:
        self.segments = tuple(segments)
        self._span = values_max + 2
        self._codes: list[dict[str | None, int]] = []
        for place in range(len(self.segments)):
            first = 1 + place * self._span
            self._codes.append({None: first, MISSING_VALUE: first, OTHER_VALUES: first + 1})

    @property
    def count(self) -> int:
        """Number of codes there can be."""
        return 1 + len(self.segments) * self._span

    def codes(self, columns: Sequence[Sequence[str | None]], rows: int) -> Ints:
        """``[rows, 1 + segments]``: ``ALL``, and the code of each value."""
        if [len(column) for column in columns] != [rows] * len(self.segments):
            lengths = [len(column) for column in columns]
            raise ValueError(
                f"segments {list(self.segments)} need a column of {rows} values each, got columns "
                f"of {lengths}"
            )
        found = np.zeros((rows, 1 + len(self.segments)), dtype=np.int64)
        for place, column in enumerate(columns):
            codes = self._codes[place]
            distinct = dict.fromkeys(column)
            for value in distinct:
                if value not in codes:
                    self._admit(place, value)
            other = 2 + place * self._span
            here = {value: codes.get(value, other) for value in distinct}
            found[:, place + 1] = np.fromiter(map(here.__getitem__, column), np.int64, rows)
        return found

    def values(self, place: int) -> dict[str, int]:
        """Value -> code of a segment, sorted; the two made-up values last."""
        first = 1 + place * self._span
        plain = {str(v): c for v, c in self._codes[place].items() if c > first + 1}
        return {**dict(sorted(plain.items())), OTHER_VALUES: first + 1, MISSING_VALUE: first}

    def dump(self) -> list[list[str]]:
        """The values of each segment in order of coming."""
        return [[str(value) for value in list(codes)[3:]] for codes in self._codes]

    def load(self, values: list[list[str]]) -> None:
        """Take in what ``dump`` gave."""
        for place, column in enumerate(values):
            for value in column:
                self._admit(place, value)

    def _admit(self, place: int, value: str | None) -> None:
        codes = self._codes[place]
        number = len(codes) - 1  # the first two codes have three names
        if value is not None and number < self._span and len(value) <= VALUE_CHARACTERS_MAX:
            codes.setdefault(value, 1 + place * self._span + number)
