"""What a learner needs of an estimator, and how any River estimator gives it.

A learner's bookkeeping does not depend on scores. So it writes down steps, and an ``Online`` runs
many of them at once, in order. A step is a number: ``slot`` means "score the vector in this slot",
``~slot`` "learn from it".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Slots = NDArray[np.int64]
Truths = NDArray[np.float64]


class Online(Protocol):
    """An estimator that scores and learns."""

    def run(self, rows: Floats, scores: Floats, steps: Slots, truths: Truths) -> None:
        """Run the steps in order.

        A row at which the estimator's arithmetic fails (Python's ``1e200 ** 2`` raises, where a
        processor says inf) has the score NaN, and what fails at learning is passed over: a single
        record must not end the flow for good.

        Args:
            rows: shape ``[slots, d]``, finite.
            scores: shape ``[slots]``; the score is written where a step asks for it.
            steps: shape ``[k]``, see the module.
            truths: one for each step that learns, in order; what it means depends on the task.
        """

    def settle(self) -> None:
        """Bring the River estimator to where it would be, had it run all steps itself.

        A pipeline's private plan of its steps, which it makes on the first call, may be missing.
        """


class RiverOnline:
    """Any River classifier that tells True from False, asked row by row."""

    def __init__(self, estimator: Any, names: Sequence[str]) -> None:
        self._estimator = estimator
        self._names = names

    def run(self, rows: Floats, scores: Floats, steps: Slots, truths: Truths) -> None:
        """See ``Online``."""
        predict, learn = self._estimator.predict_proba_one, self._estimator.learn_one
        truth = iter((truths != 0.0).tolist())
        for step in steps.tolist():
            slot = step if step >= 0 else ~step
            x = dict(zip(self._names, rows[slot].tolist(), strict=True))
            try:
                if step >= 0:
                    scores[slot] = np.nan
                    scores[slot] = predict(x).get(True, 0.0)
                else:
                    learn(x, next(truth))
            except ArithmeticError:
                continue  # see ``Online.run``

    def settle(self) -> None:
        """See ``Online``; it is always there."""
