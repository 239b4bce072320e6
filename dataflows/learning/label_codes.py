"""The labels of a call as numbers: what the store of waiting predictions and estimators want."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataflows.learning.online import Floats, Slots
from dataflows.learning.records import Labels, LearnerSpec

CLASSES_MAX = 256


class LabelCodes:
    """Classes have their place for a code, new ones one behind; other labels are all of class 0.

    Attributes:
        codes: int64 ``[m]``, the class of each label, -1 for one to ignore.
        is_known: int8 ``[classes]``, 1 for classes of labels that were matched before.
        given: class of the label that stands for silence, -1 for none.
    """

    def __init__(self, spec: LearnerSpec, labels: Labels, classes: list[str]) -> None:
        self._spec = spec
        self._values = labels.values
        self._classes = classes
        given = spec.given_label
        if spec.task != "multiclass":
            self.codes: Slots = np.where(np.isfinite(labels.values), 0, -1)
            self.is_known: NDArray[np.int8] = np.ones(1, np.int8)
            self.given = -1 if given is None else 0
            return
        places = {text: place for place, text in enumerate(classes)}
        texts = labels.texts or []
        self.codes = np.array(
            [-1 if text is None else places.setdefault(text, len(places)) for text in texts],
            np.int64,
        )
        self.given = -1 if given is None else places.setdefault(str(given), len(places))
        self.is_known = np.zeros(len(places), np.int8)
        self.is_known[: len(classes)] = 1
        self._texts = list(places)

    def truths(self, rows: Slots) -> Floats:
        """As an ``Online`` has them: of the labels in these rows, or of silence for -1.

        Rows must come in the order in which they are learned: new classes get their place so.
        """
        spec = self._spec
        if spec.task == "multiclass":
            return np.array([self._place(row) for row in rows.tolist()], np.float64)
        values = np.empty(len(rows))
        is_given = rows < 0
        values[~is_given] = self._values[rows[~is_given]]
        if spec.given_label is not None:
            values[is_given] = float(spec.given_label)
        return values if spec.task == "regression" else (values != 0.0).astype(np.float64)

    def _place(self, row: int) -> int:
        code = int(self.codes[row]) if row >= 0 else self.given
        text = self._texts[code]
        if text not in self._classes:
            self._classes.append(text)
        return self._classes.index(text)
