"""An ONNX graph in double precision, built node by node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 18
ML_OPSET = 5  # the first whose TreeEnsemble computes in double precision
ML_DOMAIN = "ai.onnx.ml"
_IR_VERSION = 9  # the one of these opsets; every later ONNX Runtime reads it


@dataclass
class Graph:
    """An ONNX graph being built.

    Names are numbered in the order of the calls, so equal calls give equal bytes.
    """

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def constant(self, values: ArrayLike, dtype: type[np.generic] = np.float64) -> str:
        """Add a constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output; returns the output's name. ``domain=ML_DOMAIN`` for trees."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def name(self, value: str, output: str) -> None:
        """Make a value an output of that name."""
        self.nodes.append(helper.make_node("Identity", [value], [output], name=output))

    def model(
        self,
        inputs: dict[str, Sequence[int | str]],
        outputs: dict[str, Sequence[int | str]],
        facts: dict[str, str],
    ) -> bytes:
        """The finished model; inputs and outputs are float64 tensors: name -> shape.

        ``facts`` go into the model's metadata.
        """

        def infos(tensors: dict[str, Sequence[int | str]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, TensorProto.DOUBLE, list(shape))
                for name, shape in tensors.items()
            ]

        nodes, constants = self._needed(set(outputs))
        graph = helper.make_graph(nodes, "river", infos(inputs), infos(outputs), constants)
        domains = {node.domain for node in nodes}
        opsets = [helper.make_opsetid("", OPSET)]
        if ML_DOMAIN in domains:
            opsets.append(helper.make_opsetid(ML_DOMAIN, ML_OPSET))
        model: ModelProto = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="headwater"
        )
        helper.set_model_props(model, facts)
        return model.SerializeToString(deterministic=True)

    def _needed(self, values: set[str]) -> tuple[list[NodeProto], list[TensorProto]]:
        """The nodes and constants that these values come from, in order."""
        nodes = []
        for node in reversed(self.nodes):
            if not values.isdisjoint(node.output):
                nodes.append(node)
                values.update(node.input)
        return nodes[::-1], [one for one in self.constants if one.name in values]
