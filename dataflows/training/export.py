"""A fitted model as ONNX in double precision, and whether it says the same."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from contracts.model_spec import Task
from dataflows.learning.parity import PARITY_TOLERANCE, Parity
from dataflows.river_onnx.graph import Graph
from dataflows.training.categories import Encoding
from dataflows.training.errors import TrainingError
from dataflows.training.examples import Floats
from dataflows.training.learners import Fitted

INPUT = "features"
SCORE = "score"
PROBABILITIES = "probabilities"
ROWS_MAX = 20_000


def to_onnx(
    fitted: Fitted, encoding: Encoding, width: int, task: Task, classes: Sequence[str]
) -> bytes:
    """The model as the scorer loads it; the same model always gives the same bytes.

    Its input is ``features``, float64 ``[N, width]``; its outputs are those of the dataflow's own
    models: ``score`` ``[N]`` and for many classes ``probabilities`` ``[N, C]``.
    """
    graph = Graph()
    found = fitted.append(graph, encoding.append(graph, INPUT))
    outputs: dict[str, Sequence[int | str]] = {SCORE: ["N"]}
    facts = {"role": "regressor" if task == "regression" else "classifier"}
    if task != "multiclass":
        graph.name(found, SCORE)
    else:
        graph.name(found, PROBABILITIES)
        axes = graph.constant([1], np.int64)
        graph.name(graph.node("ReduceMax", [found, axes], keepdims=0), SCORE)
        outputs[PROBABILITIES] = ["N", len(classes)]
        facts["classes"] = json.dumps(list(classes))
    return graph.model({INPUT: ["N", width]}, outputs, facts)


def checked_parity(onnx: bytes, rows: Floats, expected: Floats, name: str) -> Parity:
    """How far ONNX is from the library that has trained the model.

    Args:
        onnx: what ``to_onnx`` gave.
        rows: vectors that the model has not learned from; at most 20,000 of them are looked at,
            evenly spread.
        expected: what the library says of all rows, ``[n]`` or ``[n, C]``.
        name: of the model, for the message.

    Raises:
        TrainingError: further than 1e-9.
    """
    places: NDArray[np.int64] = np.unique(
        np.linspace(0, len(rows) - 1, min(len(rows), ROWS_MAX)).astype(np.int64)
    )
    found = run_onnx(onnx, rows[places], PROBABILITIES if expected.ndim == 2 else SCORE)
    difference = float(np.abs(found - expected[places]).max())
    parity = Parity(rows=len(places), max_abs_diff=difference)
    if not parity.holds:
        raise TrainingError(
            f"model {name!r} is not published: as ONNX it differs by {difference:.3g} on "
            f"{parity.rows:,} rows, allowed is {PARITY_TOLERANCE:g}; choose another --learner and "
            "report this as a defect"
        )
    return parity


def run_onnx(onnx: bytes, rows: Floats, output: str) -> Floats:
    """One output of a model, computed on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    (found,) = session.run([output], {INPUT: np.ascontiguousarray(rows, dtype=np.float64)})
    return np.asarray(found, dtype=np.float64)
