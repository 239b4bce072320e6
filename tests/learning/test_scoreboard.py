"""The scoreboard over more outcomes than its AUC looks at."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from dataflows.learning.auc import exact_auc
from dataflows.learning.scoreboard import AUC_OUTCOMES_MAX, Scoreboard

Row = tuple[bool, float, float, float]


def add(board: Scoreboard, rows: list[Row]) -> None:
    """Rows as columns."""
    labels, scores, rates, lasts = np.array(rows, dtype=np.float64).T
    board.add(labels == 1.0, scores, rates, lasts)


def outcomes(count: int) -> list[Row]:
    """Truth, score, base rate and last label, with scores that get worse over time."""
    generator = np.random.default_rng(3)
    truths = (generator.random(count) < 0.3).tolist()
    scores = (generator.random(count) + np.linspace(1, 0, count) * truths) / 2
    rates = generator.random(count).round(2)
    lasts = generator.choice([0.0, 0.5, 1.0], count)
    return list(zip(truths, scores.tolist(), rates.tolist(), lasts.tolist(), strict=True))


def expected_aucs(rows: list[Row]) -> dict[str, float | None]:
    """The three, from the rows themselves."""
    latest = np.array(rows[-AUC_OUTCOMES_MAX:], dtype=np.float64)
    names = ("auc", "baseline_rate_auc", "baseline_last_auc")
    return {name: exact_auc(latest[:, 0] == 1.0, latest[:, i]) for i, name in enumerate(names, 1)}


@pytest.mark.parametrize("size", [7, 999, 20_000, 23_000])
def test_reports_on_the_way_change_nothing(size: int) -> None:
    """Each report is right, whatever was reported before, saved boards included."""
    rows = outcomes(700 if size == 7 else 45_000)
    board = Scoreboard()
    for start in range(0, len(rows), size):
        add(board, rows[start : start + size])
        report = board.report()
        assert report | expected_aucs(rows[: start + size]) == report
        assert pickle.loads(pickle.dumps(board)).report() == report
    assert board.report() == report


@pytest.mark.parametrize("size", [1, 999, 20_000, 45_000])
def test_auc_is_that_of_the_latest_outcomes(size: int) -> None:
    """However the rows come, AUC is over the latest 20,000 and the rest over all of them."""
    rows = outcomes(45_000)
    board = Scoreboard()
    for start in range(0, len(rows), size):
        add(board, rows[start : start + size])
    report = board.report()
    assert report | expected_aucs(rows) == report
    assert report["outcomes"] == 45_000
    assert report["auc_outcomes"] == AUC_OUTCOMES_MAX
    assert report["accuracy"] == sum((row[1] > 0.5) == row[0] for row in rows) / 45_000


def test_nothing_yet() -> None:
    """Without outcomes the metrics are None, which JSON can say, and not NaN."""
    report = Scoreboard().report()
    assert report.pop("outcomes") == report.pop("auc_outcomes") == 0
    assert set(report.values()) == {None}


def test_a_score_that_is_no_number_counts_for_nobody() -> None:
    """A NaN of River's does not spoil the sums."""
    clean, spoilt = Scoreboard(), Scoreboard()
    rows = outcomes(50)
    add(clean, rows)
    add(spoilt, [*rows[:20], (True, math.nan, 0.5, 1.0), *rows[20:]])
    add(spoilt, [(True, math.nan, 0.5, 1.0)])
    assert spoilt.report() == clean.report()
