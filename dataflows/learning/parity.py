"""Does the exported model say what the River estimator says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

PARITY_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Parity:
    """How far apart the two are.

    Attributes:
        rows: number of rows compared.
        max_abs_diff: largest absolute difference of P(True); 0 for no rows, NaN if either side
            gave NaN (also if both did: such a model is of no use).
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
        P(True), shape ``[n]``.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["score"], {"features": np.ascontiguousarray(rows, dtype=np.float64)})
    return np.asarray(scores, dtype=np.float64)


def parity(
    estimator: Any,
    onnx_bytes: bytes,
    feature_names: Sequence[str],
    rows: NDArray[np.float64],
) -> Parity:
    """Compare ``predict_proba_one`` with the exported model.

    Args:
        estimator: the River classifier that was exported, unchanged since.
        onnx_bytes: what ``to_onnx`` gave for it.
        feature_names: the names given to ``to_onnx``.
        rows: shape ``[n, d]``, missing values already replaced.
    """
    if len(rows) == 0:
        return Parity(rows=0, max_abs_diff=0.0)
    expected = [
        float(
            estimator.predict_proba_one(dict(zip(feature_names, row, strict=True))).get(True, 0.0)
        )
        for row in rows.tolist()
    ]
    difference = np.abs(score_onnx(onnx_bytes, rows) - np.asarray(expected, dtype=np.float64))
    return Parity(rows=len(rows), max_abs_diff=float(difference.max()))
