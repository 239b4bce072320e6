"""Does the exported model say what the River estimator says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflows.river_onnx.parity import parity as difference
from dataflows.river_onnx.parity import run_onnx

PARITY_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Parity:
    """How far apart the two are.

    Attributes:
        rows: number of rows compared.
        max_abs_diff: largest absolute difference of a score or probability; 0 for no rows, NaN if
            either side gave NaN (also if both did: such a model is of no use).
    """

    rows: int
    max_abs_diff: float

    @property
    def holds(self) -> bool:
        """Whether the difference is a number and within ``PARITY_TOLERANCE``."""
        return self.max_abs_diff <= PARITY_TOLERANCE


def score_onnx(onnx_bytes: bytes, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Run an exported model, single-threaded.

    Args:
        onnx_bytes: what ``to_onnx`` gave.
        rows: shape ``[n, d]``, missing values already replaced.

    Returns:
        The scores, shape ``[n]``.
    """
    return run_onnx(onnx_bytes, rows)[:, 0]


def parity(
    estimator: Any,
    onnx_bytes: bytes,
    feature_names: Sequence[str],
    rows: NDArray[np.float64],
    classes: Sequence[str] | None = None,
) -> Parity:
    """Compare the estimator with the exported model; the arguments are those of River's parity."""
    return Parity(len(rows), difference(estimator, onnx_bytes, feature_names, rows, classes))
