"""A model is asked before it is taught: the bug of a peer's example, by name."""

from __future__ import annotations

import numpy as np

from dataflows.learning.learner import Learner
from tests.learning.rows import Row, labels, predictions, spec

ROWS = [Row(time_us, 0, (float(time_us % 3), 1.0, 2.0), time_us % 3 == 0) for time_us in range(40)]


def test_no_score_knows_its_own_label() -> None:
    """A model updated before it is scored would know (Bytewax's anomaly example): ours does not.

    The label of each row has the row's own time; turned round, it must leave the row's score, and
    all before it, as they are.
    """
    for turned in (0, 7, 25):
        truths = [float(row.truth) for row in ROWS]
        scores = _scores(truths)
        truths[turned] = 1.0 - truths[turned]
        other = _scores(truths)
        np.testing.assert_array_equal(other[: turned + 1], scores[: turned + 1])
        assert (other[turned + 1 :] != scores[turned + 1 :]).any()


def test_the_first_score_is_of_a_model_that_knows_nothing() -> None:
    """Even with labels that are there at once, the first prediction is one half."""
    assert _scores([1.0] * len(ROWS))[0] == 0.5


def _scores(truths: list[float]) -> np.ndarray:
    known = [(str(i), row.time_us, truths[i]) for i, row in enumerate(ROWS)]
    learned = Learner(spec()).advance(predictions(ROWS), labels(known), 1_000)
    assert len(learned.outcomes.keys) == len(ROWS)
    return learned.predictions.scores
