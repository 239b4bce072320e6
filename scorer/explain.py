"""How much each field of a vector moved a score away from a baseline's. Pure: arrays in and out.

Shapley values: the mean, over all orders in which the fields could go from the baseline's values to
the row's, of how far each field's step moves the output. For a linear output this is a product; for
few fields all mixtures of row and baseline are scored; else orders are sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from scorer.errors import InvalidRequestError, ModelFaultError

Floats = npt.NDArray[np.float64]
Run = Callable[[Floats], Floats]
# Mixtures scored in one run of the model: 1 MiB of doubles, so that memory stays bounded, whoever
# wants to stop can do so between two runs, and no run keeps others from the GIL for long.
_RUN_CELLS_MAX = 131_072
# Of all mixtures together, as their scores are held.
MIXTURES_MAX = 1_000_000
# Two pairs are the least that have a standard error.
SAMPLES_MIN = 4
_LINEAR_ERROR_MAX = 1e-9
_RESIDUAL_MAX = 1e-9
_EXP_MAX = 700.0


class Method(Enum):
    """How contributions were found."""

    LINEAR = "linear"
    EXACT_SHAPLEY = "exact_shapley"
    SAMPLED_SHAPLEY = "sampled_shapley"


class Link(Enum):
    """The scale of the output: the score itself, or its log-odds."""

    IDENTITY = "identity"
    LOG_ODDS = "log_odds"


@dataclass(frozen=True)
class Contrast:
    """What is compared, with the model's own scores of both.

    Attributes:
        row: the vector to explain, W doubles.
        baseline: the vector to compare with, W doubles.
        score: of the row.
        baseline_score: of the baseline.
    """

    row: Floats
    baseline: Floats
    score: float
    baseline_score: float

    @property
    def fields(self) -> npt.NDArray[np.intp]:
        """Positions at which row and baseline differ, ascending."""
        return np.flatnonzero(self.row != self.baseline)


@dataclass(frozen=True)
class LinearForm:
    """A model's score as ``weights @ x + bias``, or the logistic function of that.

    Attributes:
        weights: one for each field, W doubles.
        bias: the output of a vector of zeros.
        link: LOG_ODDS where the score is the logistic function of the output.
    """

    weights: Floats
    bias: float
    link: Link

    def output(self, vector: Floats) -> float:
        """``weights @ vector + bias``, rounded once: exact sums lose nothing to large offsets."""
        terms = (
            Fraction(w) * Fraction(x)
            for w, x in zip(self.weights.tolist(), vector.tolist(), strict=True)
        )
        return float(sum(terms, Fraction(self.bias)))

    def gives(self, vector: Floats, score: float) -> bool:
        """Whether the score of ``vector`` by this form is ``score``, to 1e-9."""
        output = self.output(vector)
        if self.link is Link.IDENTITY:
            return abs(output - score) <= _LINEAR_ERROR_MAX * max(1.0, abs(score))
        mine = 1.0 / (1.0 + math.exp(min(max(-output, -_EXP_MAX), _EXP_MAX)))
        return abs(mine - score) <= _LINEAR_ERROR_MAX


@dataclass(frozen=True)
class Explanation:
    """Contributions, and how they were found.

    Attributes:
        method: LINEAR and EXACT_SHAPLEY have no error but rounding.
        link: the scale of all outputs and contributions.
        output: of the row on that scale.
        baseline_output: of the baseline.
        contributions: one for each field, W doubles; 0 where row and baseline are the same.
        standard_errors: of the contributions, from sampling; 0 where exact.
        samples: orders that were sampled, those backwards included.
    """

    method: Method
    link: Link
    output: float
    baseline_output: float
    contributions: Floats
    standard_errors: Floats
    samples: int

    @property
    def residual(self) -> float:
        """``output - baseline_output - sum(contributions)``: rounding, unless something is broken.

        Raises:
            ModelFaultError: it is more than 1e-9 of the largest number in the sum.
        """
        parts = [self.output, -self.baseline_output, *(-self.contributions).tolist()]
        residual = math.fsum(parts)
        if abs(residual) > _RESIDUAL_MAX * max(map(abs, parts)):
            raise ModelFaultError(
                f"contributions miss the difference of the outputs by {residual:g}; ask without"
                " Explain, and report this model version"
            )
        return residual


def explain_linear(form: LinearForm, contrast: Contrast) -> Explanation:
    """The exact contributions ``w * (x - b)`` of a linear model."""
    contributions = [
        float(Fraction(w) * (Fraction(x) - Fraction(b)))
        for w, x, b in zip(
            form.weights.tolist(), contrast.row.tolist(), contrast.baseline.tolist(), strict=True
        )
    ]
    return Explanation(
        method=Method.LINEAR,
        link=form.link,
        output=form.output(contrast.row),
        baseline_output=form.output(contrast.baseline),
        contributions=np.array(contributions, dtype=np.float64),
        standard_errors=np.zeros(len(contrast.row)),
        samples=0,
    )


def explain_shapley(run: Run, contrast: Contrast, samples: int, seed: int) -> Explanation:
    """Shapley values on the scale of the score: exact where that costs no more than sampling.

    Args:
        run: scores of the rows of a matrix, float64 N by W -> N; called with bounded matrices,
            never with the row or the baseline as a whole.
        contrast: what is compared.
        samples: orders of the fields to sample; taken as even, and at least 4.
        seed: the same seed samples the same orders.

    Raises:
        InvalidRequestError: too many samples for so many fields, or some mixture of row and
            baseline has no finite score.
    """
    fields = contrast.fields
    count = len(fields)
    pairs = (max(samples, SAMPLES_MIN) + 1) // 2
    orders = 2 * pairs
    values, errors = np.zeros(len(contrast.row)), np.zeros(len(contrast.row))
    # A difference beyond 62 fields has no number, and never as few mixtures as the samples.
    exact = count <= 62 and 2**count - 2 <= min(orders * max(count - 1, 1), MIXTURES_MAX)
    if exact:
        values[fields] = _all_subsets(run, contrast)
    else:
        if orders * (count - 1) > MIXTURES_MAX:
            raise InvalidRequestError(
                f"{orders} samples of {count} fields that differ are more than {MIXTURES_MAX}"
                f" mixtures; ask for at most {samples_max(count)} samples"
            )
        values[fields], errors[fields] = _sampled(run, contrast, pairs, seed)
    return Explanation(
        method=Method.EXACT_SHAPLEY if exact else Method.SAMPLED_SHAPLEY,
        link=Link.IDENTITY,
        output=contrast.score,
        baseline_output=contrast.baseline_score,
        contributions=values,
        standard_errors=errors,
        samples=0 if exact else orders,
    )


def samples_max(fields: int) -> int:
    """Most orders that may be sampled where so many fields differ: even, at least 4."""
    return max(SAMPLES_MIN, MIXTURES_MAX // max(fields - 1, 1) // 2 * 2)


def _all_subsets(run: Run, contrast: Contrast) -> Floats:
    """Exact Shapley values of the fields that differ, from the scores of all their subsets."""
    count = len(contrast.fields)
    if not count:
        return np.empty(0)
    bits = np.arange(count)
    last = 2**count - 1
    scores = np.empty(last + 1)
    scores[0], scores[last] = contrast.baseline_score, contrast.score
    scores[1:last] = _mixture_scores(
        run, contrast, last - 1, lambda numbers: ((numbers[:, None] + 1) >> bits) & 1 == 1
    )
    sizes = np.bitwise_count(np.arange(2 ** (count - 1)))
    share = np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
    weights = share[sizes]
    values = np.empty(count)
    for place in range(count):
        # The subset's number, split at this field's bit; the others keep their order.
        split = scores.reshape(-1, 2, 2**place)
        steps = (split[:, 1] - split[:, 0]).reshape(-1)
        values[place] = weights @ steps
    return values


def _sampled(run: Run, contrast: Contrast, pairs: int, seed: int) -> tuple[Floats, Floats]:
    """Means over sampled orders, each also backwards, and their standard errors."""
    count = len(contrast.fields)
    random = np.random.default_rng(seed)
    # ranks[p, i]: when field i takes its step in order p. A random permutation is one of ranks too.
    ranks = random.permuted(np.tile(np.arange(count, dtype=np.int32), (pairs, 1)), axis=1)
    ranks = np.stack([ranks, count - 1 - ranks], axis=1).reshape(2 * pairs, count)
    stops = count - 1

    def mask(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        done: npt.NDArray[np.bool_] = ranks[numbers // stops] <= (numbers % stops)[:, None]
        return done

    outputs = np.empty((2 * pairs, count + 1))
    outputs[:, 0], outputs[:, -1] = contrast.baseline_score, contrast.score
    outputs[:, 1:-1] = _mixture_scores(run, contrast, 2 * pairs * stops, mask).reshape(-1, stops)
    effects = np.take_along_axis(np.diff(outputs, axis=1), ranks, axis=1)
    means = effects.reshape(pairs, 2, count).mean(axis=1)
    # Orders of one pair lean on each other; the pairs do not.
    errors = means.std(axis=0, ddof=1) / math.sqrt(pairs)
    return means.mean(axis=0), errors


def _mixture_scores(
    run: Run,
    contrast: Contrast,
    total: int,
    mask: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]],
) -> Floats:
    """Scores of mixtures 0 to ``total``; ``mask`` tells which fields of some have the row's value.

    Raises:
        InvalidRequestError: a mixture has no finite score.
    """
    fields = contrast.fields
    scores = np.empty(total)
    size = max(1, _RUN_CELLS_MAX // len(contrast.row))
    for start in range(0, total, size):
        stop = min(start + size, total)
        matrix = np.tile(contrast.baseline, (stop - start, 1))
        matrix[:, fields] = np.where(
            mask(np.arange(start, stop)), contrast.row[fields], contrast.baseline[fields]
        )
        scores[start:stop] = run(matrix)
    if not np.isfinite(scores).all():
        raise InvalidRequestError(
            "a mixture of row and baseline has no finite score; give a baseline closer to the row"
        )
    return scores
