"""A loaded version of a model: verified, warmed up, ready to run."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from contracts.manifest import Manifest
from scorer.errors import ConfigurationError, ModelFaultError
from scorer.onnx_runtime import Runtime, first_line
from scorer.vector_plan import VectorPlan, plan_vector

INPUT = "features"
OUTPUT = "score"
PROBABILITIES = "probabilities"
# Bigger models are no linear ones: nobody needs their bytes once they are loaded.
_ONNX_BYTES_KEPT_MAX = 1024 * 1024
_PROBE_ROWS = 8
_CPU = Runtime()


class UnusableModelError(Exception):
    """The version is intact but cannot be served; the text says why."""


class Outputs(NamedTuple):
    """What a model says of N rows.

    Attributes:
        scores: float64[N].
        probabilities: float64[N, C], in the order of ``Manifest.classes``; None of a model that is
            not multi-class.
    """

    scores: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64] | None


class LoadedModel:
    """One version in memory.

    Attributes:
        manifest: what the version is.
        plan: its vector, taken apart.
        onnx: the bytes it was loaded from; None if they are more than 1 MiB.
        is_multiclass: whether it has probabilities of classes.
    """

    def __init__(self, manifest: Manifest, onnx: bytes, runtime: Runtime = _CPU) -> None:
        """Build the session, check inputs and outputs, and score the default vector once.

        Takes milliseconds of CPU: not for the event loop.

        Args:
            manifest: of the version.
            onnx: its model; ``manifest.sha256`` is theirs.
            runtime: runs it; one thread of the CPU if it is left out.

        Raises:
            UnusableModelError: ONNX Runtime refuses it, or it does not do what the manifest says.
        """
        self.manifest = manifest
        self.onnx = onnx if len(onnx) <= _ONNX_BYTES_KEPT_MAX else None
        try:
            self.plan: VectorPlan = plan_vector(manifest.schema)
        except ConfigurationError as error:
            raise UnusableModelError(str(error)) from error
        try:
            self._session = runtime.session(onnx, manifest.sha256, _probe(manifest))
        except Exception as error:
            # ONNX Runtime raises a type of its own for each status, without a common base.
            raise UnusableModelError(f"ONNX Runtime refuses it: {first_line(error)}") from error
        self.is_multiclass = manifest.task == "multiclass"
        self._outputs = [OUTPUT, PROBABILITIES] if self.is_multiclass else [OUTPUT]
        self._check_signature()
        defaults = np.array([manifest.schema.defaults] * 2, dtype=np.float64)
        for rows in (1, 2):
            try:
                found = self.outputs(defaults[:rows])
            except ModelFaultError as error:
                raise UnusableModelError(f"warm-up failed: {error}") from error
            if not np.isfinite(found.scores).all():
                raise UnusableModelError("warm-up failed: the default vector has no finite score")
            if found.probabilities is not None and not np.isfinite(found.probabilities).all():
                raise UnusableModelError("warm-up failed: a probability is not finite")

    @property
    def width(self) -> int:
        """Number of columns of the input."""
        return len(self.manifest.schema.fields)

    def run(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Scores of the rows of ``matrix`` (float64, N by ``width``): float64, N.

        Raises:
            ModelFaultError: ONNX Runtime failed, or the output has another shape.
        """
        try:
            found: list[Any] = self._session.run(self._outputs[:1], {INPUT: matrix})
        except Exception as error:
            raise ModelFaultError(f"{self} failed in ONNX Runtime: {first_line(error)}") from error
        scores = np.asarray(found[0], dtype=np.float64).reshape(-1)
        if len(scores) != len(matrix):
            raise ModelFaultError(f"{self} gave {len(scores)} scores for {len(matrix)} rows")
        return scores

    def outputs(self, matrix: npt.NDArray[np.float64]) -> Outputs:
        """As ``run``, with the probabilities of a multi-class model."""
        if not self.is_multiclass:
            return Outputs(self.run(matrix), None)
        try:
            found: list[Any] = self._session.run(self._outputs, {INPUT: matrix})
        except Exception as error:
            raise ModelFaultError(f"{self} failed in ONNX Runtime: {first_line(error)}") from error
        probabilities = np.asarray(found[1], dtype=np.float64)
        shape = (len(matrix), len(self.manifest.classes))
        if probabilities.shape != shape:
            raise ModelFaultError(
                f"{self} gave probabilities of shape {list(probabilities.shape)}, not {list(shape)}"
            )
        scores = np.asarray(found[0], dtype=np.float64).reshape(-1)
        if len(scores) != len(matrix):
            raise ModelFaultError(f"{self} gave {len(scores)} scores for {len(matrix)} rows")
        return Outputs(scores, probabilities)

    def __str__(self) -> str:
        """Name and version, for messages."""
        return f"model {self.manifest.model!r} version {self.manifest.version}"

    def _check_signature(self) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [one.name for one in inputs] != [INPUT] or inputs[0].type != "tensor(double)":
            raise UnusableModelError(f"its one input must be {INPUT!r}, tensor(double)")
        shape = inputs[0].shape
        if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != self.width):
            raise UnusableModelError(f"its input is {shape}, the manifest has {self.width} fields")
        if isinstance(shape[0], int):
            raise UnusableModelError(f"its input is {shape}: the number of rows must be free")
        for name in self._outputs:
            if not any(one.name == name and one.type == "tensor(double)" for one in outputs):
                raise UnusableModelError(f"it must have an output {name!r}, tensor(double)")
        if self.is_multiclass and not self.manifest.classes:
            raise UnusableModelError("its task is multiclass and its manifest names no classes")


def _probe(manifest: Manifest) -> npt.NDArray[np.float64]:
    """Rows to tell by whether a graph is what it was: the defaults, and some around them."""
    defaults = np.array(manifest.schema.defaults, dtype=np.float64)
    around = np.random.default_rng(0).normal(size=(_PROBE_ROWS, len(defaults)))
    around[0] = 0.0
    return defaults + around * np.maximum(1.0, np.abs(defaults))
