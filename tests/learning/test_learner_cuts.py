"""The learner against itself, with its input cut into other pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.learning.learner import Learner
from dataflows.learning.records import (
    Labels,
    Learned,
    Predictions,
)
from tests.learning.rows import (
    END_US,
    ROWS,
    Row,
    advance,
    labels_of,
    predictions,
    spec,
)


def cuts(rows: list[Row], size: int) -> list[int]:
    """Watermarks that cut the stream of both kinds into pieces of about ``size`` rows."""
    times = sorted([row.time_us for row in rows] + [row.time_us + row.delay_us for row in rows])
    return sorted({time_us + 1 for time_us in times[size - 1 :: size]} | {END_US})


def run_in_pieces(learner: Learner, rows: list[Row], size: int) -> list[Learned]:
    """Calls cut by watermark, with the learner saved and loaded between any two."""
    all_predictions, all_labels = predictions(rows), labels_of(rows)
    results, done = [], (0, 0)
    for watermark_us in cuts(rows, size):
        upto = (
            int(np.searchsorted(all_predictions.times_us, watermark_us)),
            int(np.searchsorted(all_labels.times_us, watermark_us)),
        )
        (first, first_label), (last, last_label) = done, upto
        batch = Predictions(
            all_predictions.keys[first:last],
            all_predictions.times_us[first:last],
            all_predictions.features[first:last],
        )
        truths = Labels(
            all_labels.keys[first_label:last_label],
            all_labels.times_us[first_label:last_label],
            all_labels.values[first_label:last_label],
        )
        results.append(learner.advance(batch, truths, watermark_us))
        learner = Learner.loads(learner.spec, learner.dumps())
        done = upto
    results.append(learner.finish(END_US))
    return results


def in_one(results: list[Learned]) -> dict[str, Any]:
    """Everything that several calls gave, as if it had been one; NaN made comparable."""
    parts = [part.outcomes for part in results]
    columns = ("prediction_times_us", "label_times_us", "labels", "scores", "baseline_rates")
    counts = [vars(part.counts) for part in results]
    return {
        "scores": np.concatenate([part.predictions.scores for part in results]).tolist(),
        "keys": [key for part in parts for key in part.keys],
        **{
            name: np.concatenate([getattr(part, name) for part in parts]).tolist()
            for name in (*columns, "baseline_lasts")
        },
        "versions": [version for part in results for version in part.versions],
        "refused": [refused for part in results for refused in part.refused],
        "counts": {name: sum(count[name] for count in counts) for name in counts[0]},
    }


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, timeout_us=st.integers(1, 25), every_us=st.integers(1, 40))
def test_cutting_and_saving_change_nothing(rows: list[Row], timeout_us: int, every_us: int) -> None:
    """Calls of 1, 7 or 1000 rows, with save and load in between, give the same to the last byte."""
    wanted = spec(timeout_us=timeout_us, every_us=every_us)
    whole = Learner(wanted)
    first = advance(whole, predictions(rows), labels_of(rows))
    expected = in_one([first, whole.finish(END_US)])
    for size in (1, 7, 1000):
        assert in_one(run_in_pieces(Learner(wanted), rows, size)) == expected, size
