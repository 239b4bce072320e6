"""Contributions against brute force: exact where they say so, with honest errors where sampled."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorer.errors import InvalidRequestError, ModelFaultError
from scorer.explain import (
    Contrast,
    Explanation,
    Floats,
    LinearForm,
    Link,
    Method,
    explain_linear,
)
from scorer.shapley import MIXTURES_MAX, explain_shapley, samples_max

Run = Callable[[Floats], Floats]
NUMBERS = st.floats(-3, 3, allow_nan=False).map(lambda number: round(number, 3))


def trees(matrix: Floats) -> Floats:
    """Steps, products and a wave over eight fields: each leans on others."""
    x = matrix.T
    stump = np.where(x[0] > 0.2, np.where(x[1] > -0.3, 2.0, -1.0), np.where(x[5] > 0, 0.5, 3.0))
    score: Floats = stump + x[2] * x[3] * x[4] + np.sin(x[6] * x[0] * 2) + x[7] ** 2
    return score


def contrast_of(run: Run, row: Floats, baseline: Floats) -> Contrast:
    """Row and baseline with that model's scores."""
    return Contrast(row, baseline, float(run(row[None])[0]), float(run(baseline[None])[0]))


def brute_force(run: Run, row: Floats, baseline: Floats) -> Floats:
    """The mean over all orders of what each field's step does, as the definition says."""
    total, width = np.zeros(len(row)), len(row)
    scores: dict[frozenset[int], float] = {}
    for order in permutations(range(width)):
        before = None
        for count in range(width + 1):
            done = frozenset(order[:count])
            if done not in scores:
                mixed = [row[place] if place in done else baseline[place] for place in range(width)]
                scores[done] = float(run(np.array([mixed]))[0])
            if before is not None:
                total[order[count - 1]] += scores[done] - before
            before = scores[done]
    mean: Floats = total / math.factorial(width)
    return mean


def check_additive(found: Explanation) -> None:
    """The contributions and the baseline's output make up the output."""
    scale = max(1.0, abs(found.output), abs(found.baseline_output))
    total = math.fsum([found.baseline_output, *found.contributions.tolist()])
    assert total == pytest.approx(found.output, abs=1e-9 * scale)
    assert abs(found.residual) <= 1e-9 * max(scale, float(np.abs(found.contributions).max()))


@st.composite
def stepwise_models(draw: st.DrawFn) -> tuple[Run, int]:
    """A sum of products of thresholds and values over up to five fields, and their number."""
    width = draw(st.integers(1, 5))
    fields = st.lists(st.integers(0, width - 1), min_size=1, max_size=3, unique=True)
    terms = draw(
        st.lists(st.tuples(NUMBERS, fields, NUMBERS, st.booleans()), min_size=1, max_size=6)
    )

    def run(matrix: Floats) -> Floats:
        scores = np.zeros(len(matrix))
        for weight, places, threshold, stepped in terms:
            part = matrix[:, places]
            scores += weight * np.prod(part > threshold if stepped else part, axis=1)
        return scores

    return run, width


@given(model=stepwise_models(), data=st.data())
@settings(max_examples=60)
def test_few_fields_are_explained_exactly(model: tuple[Run, int], data: st.DataObject) -> None:
    """With all subsets scored, contributions equal the mean over all orders, written out."""
    run, width = model
    vectors = st.lists(NUMBERS, min_size=width, max_size=width).map(np.array)
    row, baseline = data.draw(vectors), data.draw(vectors)
    found = explain_shapley(run, contrast_of(run, row, baseline), 1_000, 0)
    assert found.method is Method.EXACT_SHAPLEY
    assert found.samples == 0
    assert not found.standard_errors.any()
    np.testing.assert_allclose(found.contributions, brute_force(run, row, baseline), atol=1e-9)
    assert not found.contributions[row == baseline].any()
    check_additive(found)


@given(
    row=st.lists(NUMBERS, min_size=8, max_size=8).map(np.array),
    samples=st.integers(1, 30),
    seed=st.integers(0, 2**64 - 1),
)
@settings(max_examples=60)
def test_sampled_contributions_add_up(row: Floats, samples: int, seed: int) -> None:
    """However few orders are sampled the sum is right, and fields that are equal get 0."""
    baseline = np.where(np.arange(8) == 3, row, 0.125)
    contrast = contrast_of(trees, row, baseline)
    found = explain_shapley(trees, contrast, samples, seed)
    check_additive(found)
    assert not found.contributions[row == baseline].any()
    assert not found.standard_errors[row == baseline].any()
    again = explain_shapley(trees, contrast, samples, seed)
    np.testing.assert_array_equal(found.contributions, again.contributions)
    if found.method is Method.SAMPLED_SHAPLEY:
        assert found.samples == max(4, samples + samples % 2)


ROW = np.array([0.9, -0.7, 1.5, -0.8, 1.1, 0.6, 1.3, -1.2])
BASELINE = np.array([-0.4, 0.3, -0.2, 0.9, 0.1, -0.5, 0.2, 0.4])


def test_sampling_nears_the_exact_values_and_its_error_is_honest() -> None:
    """Of 300 samplings, 95 of 100 intervals of 1.96 standard errors hold the exact value."""
    contrast = contrast_of(trees, ROW, BASELINE)
    exact = explain_shapley(trees, contrast, 1_000, 0)
    assert exact.method is Method.EXACT_SHAPLEY
    inside = total = 0
    estimates = []
    for seed in range(300):
        # 36 times 7 mixtures: two fewer than all subsets, so just not exact.
        found = explain_shapley(trees, contrast, 36, seed)
        assert found.method is Method.SAMPLED_SHAPLEY
        # What stands alone moves by the same in every order.
        assert found.standard_errors[7] == pytest.approx(0, abs=1e-12)
        swaying = found.standard_errors > 1e-9
        off = np.abs(found.contributions - exact.contributions)
        inside += int((off <= 1.96 * found.standard_errors)[swaying].sum())
        total += int(swaying.sum())
        estimates.append(found.contributions)
    assert 0.91 <= inside / total <= 0.97
    np.testing.assert_allclose(np.mean(estimates, axis=0), exact.contributions, atol=0.02)


def test_each_order_is_also_gone_backwards() -> None:
    """A product of two fields has no error then: who goes first in one goes last in the other."""

    def products(matrix: Floats) -> Floats:
        scores: Floats = (matrix[:, ::2] * matrix[:, 1::2]).sum(axis=1)
        return scores

    row, baseline = np.arange(1.0, 21.0), np.zeros(20)
    found = explain_shapley(products, contrast_of(products, row, baseline), 10, 7)
    assert found.method is Method.SAMPLED_SHAPLEY
    halves = np.repeat(row[::2] * row[1::2] / 2, 2)
    np.testing.assert_allclose(found.contributions, halves, rtol=1e-12)
    np.testing.assert_allclose(found.standard_errors, 0, atol=1e-10)


def test_runs_are_bounded_and_no_more_than_needed() -> None:
    """400 samples of 100 fields run 99 mixtures each, at most a mebibyte at a time."""
    sizes: list[int] = []

    def run(matrix: Floats) -> Floats:
        sizes.append(len(matrix))
        assert matrix.nbytes <= 2**20
        scores: Floats = np.tanh(matrix.sum(axis=1))
        return scores

    contrast = Contrast(np.ones(100), np.zeros(100), float(np.tanh(100.0)), 0.0)
    check_additive(explain_shapley(run, contrast, 400, 0))
    assert sum(sizes) == 400 * 99


def test_more_mixtures_than_the_bound_are_refused() -> None:
    """Samples times fields beyond a million are refused, with the number that is possible."""
    contrast = Contrast(np.ones(501), np.zeros(501), 1.0, 0.0)
    most = samples_max(501)
    assert (most + 2) * 500 > MIXTURES_MAX >= most * 500
    with pytest.raises(InvalidRequestError, match=f"at most {most} samples"):
        explain_shapley(lambda matrix: matrix[:, 0], contrast, most + 2, 0)


def test_equal_vectors_have_no_contributions() -> None:
    """Nothing is run where nothing differs; one field that differs has all."""

    def refuse(_: Floats) -> Floats:
        raise AssertionError("there is nothing to run")

    same = explain_shapley(refuse, Contrast(ROW, ROW, 0.25, 0.25), 100, 0)
    assert (same.method, same.contributions.tolist()) == (Method.EXACT_SHAPLEY, [0.0] * 8)
    assert same.residual == 0.0
    other = ROW.copy()
    other[2] = 0.0
    one = explain_shapley(refuse, Contrast(ROW, other, 0.75, 0.25), 100, 0)
    assert one.contributions.tolist() == [0, 0, 0.5, 0, 0, 0, 0, 0]


def test_mixtures_without_a_finite_score_are_refused() -> None:
    """A model that is finite at both ends may not be in between."""

    def overflowing(matrix: Floats) -> Floats:
        scores: Floats = np.where(matrix[:, 0] == matrix[:, 1], 0.5, np.nan)
        return scores

    contrast = contrast_of(overflowing, np.ones(2), np.zeros(2))
    with pytest.raises(InvalidRequestError, match="no finite score"):
        explain_shapley(overflowing, contrast, 100, 0)


@pytest.mark.parametrize("samples", [4, 1_000])
def test_what_cancels_out_leaves_no_gap(samples: int) -> None:
    """Scores near 1 in between and near 0 at both ends add up to the last bit of the small ones."""

    def either(matrix: Floats) -> Floats:
        odd = (matrix.sum(axis=1) % 2).astype(bool)
        scores: Floats = np.where(odd, 0.7, 1e-13)
        return scores

    contrast = contrast_of(either, np.ones(6), np.zeros(6))
    assert contrast.score == contrast.baseline_score == 1e-13
    found = explain_shapley(either, contrast, samples, 1)
    assert abs(found.residual) <= 1e-9 * max(1e-13, float(np.abs(found.contributions).max()))


@pytest.mark.parametrize("samples", [4, 1_000])
def test_scores_too_far_apart_are_refused(samples: int) -> None:
    """A difference that is no double any more is the request's fault, not the scorer's."""

    def huge(matrix: Floats) -> Floats:
        scores: Floats = np.where(matrix[:, 0] > 0, 1.7e308, -1.7e308)
        return scores

    contrast = contrast_of(huge, np.ones(6), np.zeros(6))
    with pytest.raises(InvalidRequestError, match="closer to the row"):
        explain_shapley(huge, contrast, samples, 1)
    form = LinearForm(np.full(6, 1e308), 0.0, Link.IDENTITY)
    assert not form.gives(np.ones(6), 1.0)
    with pytest.raises(OverflowError):
        explain_linear(form, contrast)


def test_a_sum_that_misses_is_not_handed_out() -> None:
    """Contributions that do not add up are a fault, never an answer."""
    found = explain_linear(
        LinearForm(np.array([1.0]), 0.0, Link.IDENTITY),
        Contrast(np.array([1.0]), np.array([0.0]), 1.0, 0.0),
    )
    broken = Explanation(
        found.method,
        found.link,
        found.output + 1e-6,
        found.baseline_output,
        found.contributions,
        found.standard_errors,
        0,
    )
    with pytest.raises(ModelFaultError, match="miss the difference"):
        _ = broken.residual


WIDE = st.floats(-1e9, 1e9, allow_nan=False)


@given(data=st.data(), width=st.integers(1, 6))
@settings(max_examples=60)
def test_linear_contributions_are_products(data: st.DataObject, width: int) -> None:
    """The product w (x - b) of each field, adding up even where large offsets swallow digits."""
    vectors = st.lists(WIDE, min_size=width, max_size=width).map(np.array)
    weights, row, baseline = data.draw(vectors), data.draw(vectors), data.draw(vectors)
    form = LinearForm(weights, data.draw(WIDE), Link.IDENTITY)
    contrast = Contrast(row, baseline, form.output(row), form.output(baseline))
    found = explain_linear(form, contrast)
    np.testing.assert_allclose(found.contributions, weights * (row - baseline), rtol=1e-12)
    assert not found.standard_errors.any()
    ends = (1.0, abs(found.output), abs(found.baseline_output))
    assert abs(found.residual) <= 1e-12 * max(*ends, float(np.abs(found.contributions).max()))
    assert form.gives(row, contrast.score)
