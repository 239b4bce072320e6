"""Contributions of models that are not linear: Shapley values. Pure but for the model's runs.

The mean, over all orders in which the fields could go from the baseline's values to the row's, of
how far each field's step moves the score. For few fields all mixtures of row and baseline are
scored; else orders are sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from scorer.errors import InvalidRequestError
from scorer.explain import Contrast, Explanation, Floats, Link, Method, checked_sum

Run = Callable[[Floats], Floats]
# Mixtures scored in one run of the model: 1 MiB of doubles, so that memory stays bounded, whoever
# wants to stop can do so between two runs, and no run keeps others from the GIL for long.
_RUN_CELLS_MAX = 131_072
# Of all mixtures together, as their scores are held.
MIXTURES_MAX = 1_000_000
# Two pairs are the least that have a standard error.
SAMPLES_MIN = 4
_TOO_FAR = "a mixture of row and baseline has no finite score; give a baseline closer to the row"


def explain_shapley(run: Run, contrast: Contrast, samples: int, seed: int) -> Explanation:
    """Shapley values on the scale of the score: exact where that costs no more than sampling.

    Args:
        run: scores of the rows of a matrix, float64 N by W -> N; called with bounded matrices,
            never with the row or the baseline as a whole.
        contrast: what is compared.
        samples: orders of the fields to sample; taken as even, and at least 4.
        seed: the same seed samples the same orders.

    Raises:
        InvalidRequestError: too many samples for so many fields, or row and baseline are so far
            apart that a mixture of them, or a contribution, is no finite number.
        ModelFaultError: the contributions do not add up.
    """
    fields = contrast.fields
    count = len(fields)
    pairs = (max(samples, SAMPLES_MIN) + 1) // 2
    orders = 2 * pairs
    values, errors = np.zeros(len(contrast.row)), np.zeros(len(contrast.row))
    # A difference beyond 62 fields has no number, and never as few mixtures as the samples.
    exact = count <= 62 and 2**count - 2 <= min(orders * max(count - 1, 1), MIXTURES_MAX)
    if exact:
        values[fields], size = _all_subsets(run, contrast)
    else:
        if orders * (count - 1) > MIXTURES_MAX:
            raise InvalidRequestError(
                f"{orders} samples of {count} fields that differ are more than {MIXTURES_MAX}"
                f" mixtures; ask for at most {samples_max(count)} samples"
            )
        values[fields], errors[fields], size = _sampled(run, contrast, pairs, seed)
    if not math.isfinite(size * count + float(np.abs(values).sum())):
        raise InvalidRequestError(_TOO_FAR)
    if count:
        # Scores in between may be far greater than all that is left of them in the sum: what their
        # rounding left there is not to be seen as a gap.
        parts = [contrast.score, -contrast.baseline_score, *(-values).tolist()]
        values[fields] += checked_sum(parts, size) / count
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


def _all_subsets(run: Run, contrast: Contrast) -> tuple[Floats, float]:
    """Exact Shapley values of the fields that differ; the largest score of all their subsets."""
    count = len(contrast.fields)
    if not count:
        return np.empty(0), abs(contrast.score)
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
        with np.errstate(all="ignore"):
            values[place] = weights @ (split[:, 1] - split[:, 0]).reshape(-1)
    return values, float(np.abs(scores).max())


def _sampled(run: Run, contrast: Contrast, pairs: int, seed: int) -> tuple[Floats, Floats, float]:
    """Means over sampled orders, each also backwards; their standard errors; the largest score."""
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
    with np.errstate(all="ignore"):
        effects = np.take_along_axis(np.diff(outputs, axis=1), ranks, axis=1)
        means = effects.reshape(pairs, 2, count).mean(axis=1)
        # Orders of one pair lean on each other; the pairs do not.
        errors = means.std(axis=0, ddof=1) / math.sqrt(pairs)
        return means.mean(axis=0), errors, float(np.abs(outputs).max())


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
        raise InvalidRequestError(_TOO_FAR)
    return scores
