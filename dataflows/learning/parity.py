"""Does the exported model say what the River estimator says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dataflows.river_onnx import Role, check_exportable

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
    return _outputs(onnx_bytes, rows)[:, 0]


def parity(
    estimator: Any,
    onnx_bytes: bytes,
    feature_names: Sequence[str],
    rows: NDArray[np.float64],
    classes: Sequence[str] | None = None,
) -> Parity:
    """Compare the estimator with the exported model.

    Args:
        estimator: River's, unchanged since it was exported.
        onnx_bytes: what ``to_onnx`` gave for it.
        feature_names: the names given to ``to_onnx``.
        rows: shape ``[n, d]``, missing values already replaced.
        classes: those given to ``to_onnx``.
    """
    if len(rows) == 0:
        return Parity(rows=0, max_abs_diff=0.0)
    role = check_exportable(estimator)
    expected = [
        _says(estimator, role, dict(zip(feature_names, row, strict=True)), classes)
        for row in rows.tolist()
    ]
    difference = np.abs(_outputs(onnx_bytes, rows) - np.asarray(expected, dtype=np.float64))
    return Parity(rows=len(rows), max_abs_diff=float(difference.max()))


def _says(
    estimator: Any, role: Role, row: dict[str, float], classes: Sequence[str] | None
) -> list[float]:
    """What River says of a row: its score, and after it the probabilities of the classes."""
    if role == "regressor":
        return [estimator.predict_one(row)]
    if role == "anomaly":
        return [estimator.score_one(row)]
    found = estimator.predict_proba_one(row)
    if classes is None:
        return [found.get(True, 0.0)]
    return [max(found.values(), default=0.0), *(found.get(label, 0.0) for label in classes)]


def _outputs(onnx_bytes: bytes, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """All outputs beside each other, float64 ``[n, 1 + classes]``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"features": np.ascontiguousarray(rows, dtype=np.float64)})
    return np.hstack([np.asarray(one, dtype=np.float64).reshape(len(rows), -1) for one in found])
