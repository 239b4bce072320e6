"""Values and bounds of the comparison, against scipy, plain Python and all possible outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dataflows.drift.cells import CELLS, EDGES_MAX, learn_nominal, learn_ordered
from dataflows.drift.kernel import (
    KINDS,
    KS,
    MISSING,
    PSI,
    compare,
    count,
    log_p_distance,
    log_p_groups,
    psi,
)

SEEDS = st.integers(0, 2**32 - 1)


def _draw(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Values of some kind: smooth, heavy-tailed, whole, few or one."""
    kinds = (
        lambda: rng.normal(size=n),
        lambda: rng.standard_cauchy(n),
        lambda: rng.poisson(4, n).astype(float),
        lambda: rng.integers(0, 200, n).astype(float),
        lambda: np.where(rng.random(n) < 0.5, 0.0, rng.random(n)),
        lambda: np.full(n, 3.0),
    )
    values: NDArray[np.float64] = kinds[rng.integers(len(kinds))]()
    return values


def _counted(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    padded = np.full((1, EDGES_MAX), np.inf)
    padded[0, : len(edges)] = edges
    counts, missing = np.zeros((1, CELLS), np.uint16), np.zeros(1, np.uint16)
    count(values[:, None], padded, np.array([len(edges)]), counts, missing)
    assert missing[0] == np.count_nonzero(~np.isfinite(values))
    return counts.astype(np.int64)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 400))
def test_each_value_is_counted_in_its_cell(seed: int, n: int) -> None:
    """A value on an edge goes to the edge's own cell, any other to the cell between two edges."""
    rng = np.random.default_rng(seed)
    sample, values = _draw(rng, 500), _draw(rng, n)
    values[rng.random(n) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    for learn in (learn_ordered, learn_nominal):
        edges = learn(sample).edges.tolist()
        expected = [0] * CELLS
        for value in values.tolist():
            if math.isfinite(value):
                below = sum(edge < value for edge in edges)
                expected[2 * below + (value in edges)] += 1
        assert _counted(values, np.array(edges))[0].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_distance_against_scipy(seed: int) -> None:
    """The KS distance is scipy's, but for what the rows in one cell may hide."""
    rng = np.random.default_rng(seed)
    sample, reference, window = _draw(rng, 400), _draw(rng, 900), _draw(rng, 300)
    cells = learn_ordered(sample)
    exact = stats.ks_2samp(reference, window).statistic
    ours, theirs = _counted(window, cells.edges), _counted(reference, cells.edges)
    values = np.zeros((KINDS, 1))
    none = np.zeros(1, np.int64)
    compare(
        ours, theirs, none, none, np.array([len(cells.edges)]), cells.groups[None, :],
        np.array([cells.group_count]), values, np.zeros((KINDS, 1)),
    )  # fmt: skip
    hidden = np.maximum(ours / len(window), theirs / len(reference)).max()
    if np.isin(np.concatenate((reference, window)), cells.edges).all():
        hidden = 0.0  # each value has a cell of its own
    assert values[KS, 0] <= exact + 1e-12
    assert exact <= values[KS, 0] + hidden + 1e-12


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_psi_against_its_definition(seed: int) -> None:
    """PSI is the sum of (p - q) ln(p / q) over the groups of the cells, half a row more in each."""
    rng = np.random.default_rng(seed)
    cells = learn_ordered(_draw(rng, 400))
    window, reference = _draw(rng, 250), _draw(rng, 800)
    shares = []
    for values in (window, reference):
        by_group = [0.5] * cells.group_count
        for cell, rows in enumerate(_counted(values, cells.edges)[0].tolist()):
            by_group[cells.groups[cell]] += rows
        shares.append([rows / sum(by_group) for rows in by_group])
    expected = sum((p - q) * math.log(p / q) for p, q in zip(*shares, strict=True))
    values = np.zeros((KINDS, 1))
    none = np.zeros(1, np.int64)
    compare(
        _counted(window, cells.edges), _counted(reference, cells.edges), none, none,
        np.array([len(cells.edges)]), cells.groups[None, :], np.array([cells.group_count]),
        values, np.zeros((KINDS, 1)),
    )  # fmt: skip
    assert values[PSI, 0] == pytest.approx(expected, abs=1e-12)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield first, *rest


@pytest.mark.parametrize("truth", [(0.5, 0.5), (0.02, 0.98), (0.2, 0.3, 0.5), (0.01, 0.01, 0.98)])
def test_bound_of_groups_holds_exactly(truth: tuple[float, ...]) -> None:
    """Over all outcomes of two small samples, none is called rarer than it and those beyond are."""
    outcomes = []
    n, m = 7, 12
    for ours in _compositions(n, len(truth)):
        for theirs in _compositions(m, len(truth)):
            chance = stats.multinomial.pmf(ours, n, truth) * stats.multinomial.pmf(theirs, m, truth)
            outcomes.append((log_p_groups(np.array(ours), np.array(theirs), len(truth)), chance))
    outcomes.sort()
    total = 0.0
    for log, chance in outcomes:
        total += chance
        assert total <= math.exp(log) * (1 + 1e-9) + 1e-12
    assert outcomes[0][0] < math.log(0.5)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.integers(2, 12))
def test_bound_of_groups_against_scipy(seed: int, groups: int) -> None:
    """No two samples are called rarer than the likelihood-ratio test of scipy calls them."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(groups, 5.0))
    other = rng.dirichlet(200.0 * shares)
    counts = np.stack((rng.multinomial(1_000, other), rng.multinomial(8_000, shares)))
    counts[:, counts.sum(axis=0) == 0] = 1
    p = stats.chi2_contingency(counts, lambda_="log-likelihood", correction=False).pvalue
    assert p <= math.exp(log_p_groups(counts[0], counts[1], groups)) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("rows", "reference_rows"), [(20, 50), (60, 40), (5, 300), (1_000, 8_000), (300, 300)]
)
def test_bound_of_the_distance_holds_exactly(rows: int, reference_rows: int) -> None:
    """At one cut, however many rows are below it, no distance is called rarer than it is."""
    total = rows + reference_rows
    for below in range(0, total + 1, max(1, total // 20)):
        window = np.arange(max(0, below - reference_rows), min(rows, below) + 1)
        chances = stats.hypergeom.pmf(window, total, below, rows)
        distances = np.abs(window / rows - (below - window) / reference_rows)
        for distance in distances[:: max(1, len(distances) // 50)].tolist():
            chance = chances[distances >= distance - 1e-12].sum()
            bound = math.exp(log_p_distance(distance, rows, reference_rows, 1))
            assert chance <= bound * (1 + 1e-9)


def test_missing_rate() -> None:
    """The missing rates differ by 0.08; a column without any value has no other figures."""
    window, reference = np.zeros((1, CELLS), np.int64), np.zeros((1, CELLS), np.int64)
    window[0, 0], reference[0, 0] = 900, 7_840
    arguments = (np.array([0]), np.zeros((1, CELLS), np.int64), np.array([1]))
    values, logs = np.zeros((KINDS, 1)), np.zeros((KINDS, 1))
    compare(window, reference, np.array([100]), np.array([160]), *arguments, values, logs)
    assert values[MISSING, 0] == pytest.approx(0.08)
    assert logs[MISSING, 0] < math.log(1e-12)
    assert values[KS, 0] == 0.0
    window[0, 0] = 0
    compare(window, reference, np.array([1_000]), np.array([160]), *arguments, values, logs)
    assert (values[PSI, 0], values[KS, 0]) == (0.0, 0.0)
    assert values[MISSING, 0] == pytest.approx(0.98)


def test_no_group_is_empty() -> None:
    """A group that only one of the two samples has makes PSI large, not infinite."""
    assert 0.2 < psi(np.array([90, 10]), np.array([1_000, 0]), 2) < 1.0
