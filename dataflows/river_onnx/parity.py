"""Does an exported model say what the River estimator says?

The one module of the package that needs ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .convert import INPUT, check_exportable
from .registry import Role

Doubles = NDArray[np.float64]


def parity(
    estimator: Any,
    onnx_bytes: bytes,
    feature_names: Sequence[str],
    rows: Doubles,
    classes: Sequence[Any] | None = None,
) -> float:
    """The largest absolute difference of a score or a probability.

    Args:
        estimator: River's, unchanged since it was exported.
        onnx_bytes: what ``to_onnx`` gave for it.
        feature_names: those given to ``to_onnx``.
        rows: shape ``[n, d]``; River is given None for NaN.
        classes: those given to ``to_onnx``.

    Returns:
        0 without rows; NaN if either side gave NaN, also if both did, as such a model is of no use.
    """
    if len(rows) == 0:
        return 0.0
    difference = np.abs(
        run_onnx(onnx_bytes, rows) - run_river(estimator, feature_names, rows, classes)
    )
    return float(difference.max())


def run_onnx(onnx_bytes: bytes, rows: Doubles) -> Doubles:
    """All outputs of an exported model beside each other, ``[n, 1 + classes]``; one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {INPUT: np.ascontiguousarray(rows, dtype=np.float64)})
    return np.hstack([np.asarray(one, dtype=np.float64).reshape(len(rows), -1) for one in found])


def run_river(
    estimator: Any,
    feature_names: Sequence[str],
    rows: Doubles,
    classes: Sequence[Any] | None = None,
) -> Doubles:
    """The same from River: the score, then the probabilities of the classes."""
    role = check_exportable(estimator)
    return np.array(
        [_said(estimator, role, as_river(feature_names, row), classes) for row in rows.tolist()],
        dtype=np.float64,
    )


def as_river(feature_names: Sequence[str], row: Sequence[float]) -> dict[str, float | None]:
    """A row as River takes it."""
    values = (None if math.isnan(value) else value for value in row)
    return dict(zip(feature_names, values, strict=True))


def _said(
    estimator: Any, role: Role, row: dict[str, float | None], classes: Sequence[Any] | None
) -> list[float]:
    if role == "regressor":
        return [_number(estimator.predict_one(row))]
    if role == "anomaly":
        return [_number(estimator.score_one(row))]
    found = estimator.predict_proba_one(row)
    if classes is None:
        return [_number(found.get(True, 0.0))]
    shares = [_number(found.get(label, 0.0)) for label in classes]
    return [max(shares, default=0.0), *shares]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
