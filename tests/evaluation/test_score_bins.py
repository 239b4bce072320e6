"""Ranking figures of counted bins, against scikit-learn on the scores themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from dataflows.evaluation.exact_sums import Floats, Ints
from dataflows.evaluation.score_bins import (
    BETWEEN,
    BINS,
    auc,
    average_precision,
    halved,
    score_bins,
)


def counted(labels: Floats, scores: Floats) -> Ints:
    """Falses and trues of each bin."""
    counts = np.zeros((BINS, 2), dtype=np.int64)
    np.add.at(counts, (score_bins(scores), labels.astype(np.int64)), 1)
    return counts


def ranked(spread: float, shift: float, seed: int) -> tuple[Floats, Floats]:
    """Labels, and scores that know something of them."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(4_000) < 0.1).astype(np.float64)
    return labels, 1 / (1 + np.exp(-(generator.normal(size=4_000) * spread + labels - shift)))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60))
def test_bins_ascend_with_the_scores(scores: list[float]) -> None:
    """A higher score is never in a lower bin, and every bin is one."""
    bins = score_bins(np.sort(np.array(scores)))
    assert (np.diff(bins) >= 0).all()
    assert bins.min() >= 0
    assert bins.max() < BINS
    assert (np.diff(halved(bins)) >= 0).all()
    assert len(set(halved(np.arange(BINS)).tolist())) == BINS - BETWEEN // 2


def test_bins_cover_where_models_score() -> None:
    """Probabilities use 512 bins, numbers below and above the others."""
    assert len(set(score_bins(np.linspace(1e-6, 1 - 1e-6, 100_000)).tolist())) > 400
    assert len(set(score_bins(np.linspace(-50, 0, 10_000)).tolist())) > 45
    assert len(set(score_bins(np.linspace(1, 50, 10_000)).tolist())) > 35


@pytest.mark.parametrize(("spread", "shift"), [(1.0, 0.0), (0.1, 3.0), (4.0, 0.0), (1.0, 9.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_auc_is_as_near_as_it_says(spread: float, shift: float, seed: int) -> None:
    """The exact AUC lies within the error told, and in practice a tenth of it away."""
    labels, scores = ranked(spread, shift, seed)
    found, error = auc(counted(labels, scores))
    assert found is not None
    assert error is not None
    exact = roc_auc_score(labels, scores)
    assert abs(found - exact) <= error
    assert abs(found - exact) <= max(0.1 * error, 0.002)
    # With bins for scores it is the same figure.
    assert found == pytest.approx(roc_auc_score(labels, score_bins(scores)), abs=1e-12)


def test_average_precision_of_the_bins() -> None:
    """It is scikit-learn's of the bins, and near that of the scores."""
    labels, scores = ranked(1.0, 1.0, 3)
    found = average_precision(counted(labels, scores))
    assert found == pytest.approx(average_precision_score(labels, score_bins(scores)), abs=1e-12)
    assert found == pytest.approx(average_precision_score(labels, scores), abs=0.01)


def test_no_ranking_without_both_labels() -> None:
    """Alike labels, or none, have no AUC; without a True there is no precision either."""
    scores = np.array([0.1, 0.9])
    assert auc(counted(np.zeros(2), scores)) == (None, None)
    assert auc(counted(np.empty(0), np.empty(0))) == (None, None)
    assert average_precision(counted(np.zeros(2), scores)) is None
    assert average_precision(counted(np.ones(2), scores)) == 1.0


def test_counts_of_billions() -> None:
    """Pairs are counted right where their number needs more than 64 bits."""
    counts = np.zeros((BINS, 2), dtype=np.int64)
    counts[10], counts[20] = (3 * 10**9, 10**9), (10**9, 3 * 10**9)
    assert auc(counts) == (0.75, 0.1875)
