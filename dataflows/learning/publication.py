"""A learner's state of the moment as a version, if the export says what River says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflows.learning.parity import PARITY_TOLERANCE, parity
from dataflows.learning.records import LearnerSpec, NewVersion, RefusedVersion
from dataflows.river_onnx import UnsupportedEstimatorError, to_onnx


@dataclass(frozen=True)
class Progress:
    """How far a learner is; the attributes are those of ``NewVersion``."""

    version: int
    boundary_us: int
    trained_from_us: int
    trained_until_us: int
    examples: int
    metrics: dict[str, float | None]
    classes: tuple[str, ...] = ()
    examples_digest: str = ""


def make_version(
    spec: LearnerSpec, estimator: Any, held_out: NDArray[np.float64], progress: Progress
) -> NewVersion | RefusedVersion:
    """Export and compare; refused if it fails or they differ by more than ``PARITY_TOLERANCE``.

    Args:
        spec: of the learner.
        estimator: River's, as it is now; it is not changed.
        held_out: rows to compare on, ``[n, d]`` without missing values.
        progress: what to write beside the model.
    """
    names = spec.schema.names
    classes = progress.classes if spec.task == "multiclass" else None
    try:
        onnx_bytes = to_onnx(estimator, names, classes)
        result = parity(estimator, onnx_bytes, names, held_out, classes)
    except (UnsupportedEstimatorError, ArithmeticError) as error:
        # It could be exported when it was made; what it has grown into cannot.
        reason = f"model {spec.name} version {progress.version}: {error}"
        return RefusedVersion(progress.version, progress.boundary_us, reason)
    if not result.holds:
        reason = (
            f"model {spec.name} version {progress.version}: ONNX differs from River by "
            f"{result.max_abs_diff} on {result.rows} rows, allowed is {PARITY_TOLERANCE}"
        )
        return RefusedVersion(progress.version, progress.boundary_us, reason)
    return NewVersion(
        version=progress.version,
        boundary_us=progress.boundary_us,
        trained_from_us=progress.trained_from_us,
        trained_until_us=progress.trained_until_us,
        examples=progress.examples,
        metrics=progress.metrics,
        parity=result,
        onnx=onnx_bytes,
        classes=progress.classes,
        examples_digest=progress.examples_digest,
    )
