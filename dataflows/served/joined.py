"""What a join of served rows and labels gives, and counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# More names (of versions, classes, values of segments) than this are one and the same.
NAMES_MAX = 100_000
OTHER_NAMES = "(other)"
NO_NAME = -1


@dataclass
class JoinCounts:
    """What became of rows and labels.

    Attributes:
        rows: taken in.
        joined: of these, that got a label.
        given: of these, the label that stands for silence.
        unlabelled: given up, as their time was over.
        dropped_rows: given up, as too many waited.
        labels: looked at.
        ignored_labels: of these, without a value.
        repeated_labels: of these, known already.
        unmatched_labels: of these, held until their time was over without any row.
        dropped_labels: of these, given up as too many were held.
    """

    rows: int = 0
    joined: int = 0
    given: int = 0
    unlabelled: int = 0
    dropped_rows: int = 0
    labels: int = 0
    ignored_labels: int = 0
    repeated_labels: int = 0
    unmatched_labels: int = 0
    dropped_labels: int = 0


@dataclass(frozen=True)
class Joined:
    """Rows with their labels, as columns of shape ``[k]``.

    Attributes:
        labels: 1.0 or 0.0, a number, or the place of the class in ``ServedJoin.classes``.
        label_times_us: when each came.
        truth_probabilities: with many classes; empty else.
        predicted: the same.
    """

    pairs: list[int]
    versions: list[str]
    assigned: list[str]
    is_answer: NDArray[np.bool_]
    units: list[int]
    scores: Floats
    labels: Floats
    label_times_us: Ints
    segments: tuple[list[str | None], ...]
    predicted: Ints
    truth_probabilities: Floats


@dataclass
class Names:
    """Texts as small numbers, in order of coming."""

    texts: list[str] = field(default_factory=list)
    _codes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the codes of texts that are given."""
        self._codes = {text: code for code, text in enumerate(self.texts)}

    def code(self, text: str | None) -> int:
        """The number of a text; -1 for None."""
        if text is None:
            return NO_NAME
        code = self._codes.get(text)
        if code is None:
            if len(self.texts) >= NAMES_MAX and text != OTHER_NAMES:
                return self.code(OTHER_NAMES)
            code = self._codes[text] = len(self.texts)
            self.texts.append(text)
        return code

    def text(self, code: int) -> str | None:
        """The text of a number."""
        return None if code == NO_NAME else self.texts[code]
