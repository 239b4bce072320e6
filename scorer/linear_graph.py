"""Whether an ONNX graph is linear in its input but for a logistic function at its end. Pure.

Follows the graph by the steps of ``scorer.linear_steps``. Any other step makes its result unknown,
so that "linear" is never a guess.

Imports ``onnx`` (0.1 s, 12 MB): the scorer imports this module when it is first needed.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from scorer.explain import LinearForm, Link
from scorer.linear_steps import CELLS_MAX, STEPS, Form, Known, UnknownError, Value, attributes


def linear_form(model_bytes: bytes, input_name: str, output_name: str) -> LinearForm | None:
    """The weights, bias and link of a model with one output per row; None if it is not linear.

    The model must be one that ONNX Runtime accepts.
    """
    model = onnx.load_model_from_string(model_bytes)
    graph = model.graph
    width = _width(model, input_name)
    tensors = [*graph.initializer]
    external = any(one.data_location == TensorProto.EXTERNAL for one in tensors)
    # A model's own function may have the name of a step that we think we know.
    if width is None or external or model.functions:
        return None
    constants = {one.name: numpy_helper.to_array(one) for one in tensors}
    known = Known(constants, {input_name: Value(np.eye(width + 1)[:, :width])})
    cells = 0
    for node in graph.node:
        value = _result(known, node)
        if value is not None:
            cells += value.rows.size
            if cells > CELLS_MAX:
                return None
            known.values[node.output[0]] = value
    end = known.values.get(output_name)
    if end is None or end.form not in (Form.LINEAR, Form.LOGISTIC):
        return None
    if end.rows.size != width + 1 or not np.isfinite(end.rows).all():
        return None
    rows = end.rows.reshape(width + 1)
    link = Link.LOG_ODDS if end.form is Form.LOGISTIC else Link.IDENTITY
    return LinearForm(rows[:width], float(rows[width]), link)


def _width(model: ModelProto, input_name: str) -> int | None:
    """Columns of the input; None if it is not ``[N, W]`` of doubles, or too wide to follow."""
    for one in model.graph.input:
        if one.name == input_name:
            tensor = one.type.tensor_type
            width = tensor.shape.dim[1].dim_value if len(tensor.shape.dim) == 2 else 0
            good = tensor.elem_type == TensorProto.DOUBLE and width > 0
            return width if good and width * (width + 1) <= CELLS_MAX else None
    return None


def _result(known: Known, node: NodeProto) -> Value | None:
    """What a node gives; None if that is not known. Takes note of constants."""
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    if node.op_type == "Constant":
        tensor = attributes(node).get("value")
        if tensor is not None and tensor.data_location != TensorProto.EXTERNAL:
            known.constants[node.output[0]] = numpy_helper.to_array(tensor)
        return None
    step = STEPS.get(node.op_type)
    try:
        with np.errstate(all="ignore"):
            return None if step is None else step(known, node)
    except (UnknownError, ValueError, IndexError):
        # numpy says ValueError of shapes that do not fit; only ONNX Runtime need know better.
        return None
