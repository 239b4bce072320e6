"""How much each field of a vector moved a score away from a baseline's. Pure: arrays in and out.

The words of it all, and the contributions of a linear model: products, without an error. For others
see ``scorer.shapley``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from scorer.errors import ModelFaultError

Floats = npt.NDArray[np.float64]
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
        """``weights @ vector + bias``, rounded once: exact sums lose nothing to large offsets.

        Raises:
            OverflowError: it is no double any more.
        """
        terms = (
            Fraction(w) * Fraction(x)
            for w, x in zip(self.weights.tolist(), vector.tolist(), strict=True)
        )
        return float(sum(terms, Fraction(self.bias)))

    def gives(self, vector: Floats, score: float) -> bool:
        """Whether the score of ``vector`` by this form is ``score``, to 1e-9."""
        try:
            output = self.output(vector)
        except OverflowError:
            return False
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
        return checked_sum(parts, max(map(abs, parts)))


def explain_linear(form: LinearForm, contrast: Contrast) -> Explanation:
    """The exact contributions ``w * (x - b)`` of a linear model.

    Raises:
        OverflowError: one of them, or all together, are no doubles any more.
    """
    contributions = [
        float(Fraction(w) * (Fraction(x) - Fraction(b)))
        for w, x, b in zip(
            form.weights.tolist(), contrast.row.tolist(), contrast.baseline.tolist(), strict=True
        )
    ]
    output, baseline_output = form.output(contrast.row), form.output(contrast.baseline)
    if not math.isfinite(abs(output) + abs(baseline_output) + sum(map(abs, contributions))):
        raise OverflowError
    return Explanation(
        method=Method.LINEAR,
        link=form.link,
        output=output,
        baseline_output=baseline_output,
        contributions=np.array(contributions, dtype=np.float64),
        standard_errors=np.zeros(len(contrast.row)),
        samples=0,
    )


def checked_sum(parts: list[float], size: float) -> float:
    """The sum of numbers that should be 0 but for rounding, where they come of numbers of a size.

    Raises:
        ModelFaultError: it is more than 1e-9 of that.
    """
    total = math.fsum(parts)
    if abs(total) > _RESIDUAL_MAX * size:
        raise ModelFaultError(
            f"contributions miss the difference of the outputs by {total:g}; ask without Explain,"
            " and report this model version"
        )
    return total
