"""How long a version takes to load: with its graph optimised anew, and with the kept one.

Three models: a logistic regression as the learner exports it, a network of several layers, and 500
trees. Loads of both kinds take turns, each in the same process; the scores are compared to the last
bit before anything is reported.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from river import compose, linear_model, preprocessing

from benchmarks._environment import describe, load_average, write
from contracts.feature_schema import FeatureSchema, VectorField
from contracts.manifest import Manifest, sha256_hex
from dataflows.river_onnx import to_onnx
from scorer.model import LoadedModel
from scorer.onnx_runtime import CPU, Runtime, open_runtime

WIDTH = 60
NAMES = tuple(f"f{place}" for place in range(WIDTH))
TREES, DEPTH = 500, 8
LOADS = 30


@dataclass(frozen=True)
class Times:
    """Milliseconds of each load: without a cache, with an empty one, with the graph kept."""

    anew: list[float]
    kept_first: list[float]
    kept: list[float]

    def figures(self) -> dict[str, Any]:
        """Medians, and how much faster a kept graph is."""
        anew, kept = statistics.median(self.anew), statistics.median(self.kept)
        return {
            "anew_ms": round(anew, 3),
            "anew_and_kept_ms": round(statistics.median(self.kept_first), 3),
            "kept_ms": round(kept, 3),
            "times_faster": round(anew / kept, 2),
        }


def learned() -> bytes:
    """Scaler and logistic regression, after some examples."""
    random = np.random.default_rng(0)
    model = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    for row in random.normal(size=(200, WIDTH)):
        model.learn_one(dict(zip(NAMES, row.tolist(), strict=True)), bool(row[0] > 0))
    return to_onnx(model, NAMES)


def network() -> bytes:
    """Ten layers of 128, each with a rectifier."""
    random = np.random.default_rng(0)
    sizes = [WIDTH, *[128] * 10, 1]
    nodes, constants, value = [], {}, "features"
    for layer, (before, after) in enumerate(pairwise(sizes)):
        constants[f"w{layer}"] = random.normal(size=(before, after)) / before**0.5
        constants[f"b{layer}"] = random.normal(size=after)
        nodes.append(helper.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Add", [f"m{layer}", f"b{layer}"], [f"a{layer}"]))
        last = after == 1
        value = "score" if last else f"r{layer}"
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"a{layer}"], [value]))
    return _model(nodes, constants)


def trees() -> bytes:
    """500 full trees of depth 8, with thresholds and leaves at random."""
    random = np.random.default_rng(0)
    inner, nodes = 2**DEPTH - 1, 2 ** (DEPTH + 1) - 1
    ids = np.arange(nodes)
    leaf = ids >= inner
    every: dict[str, Any] = {
        "nodes_treeids": np.repeat(np.arange(TREES), nodes).tolist(),
        "nodes_nodeids": np.tile(ids, TREES).tolist(),
        "nodes_featureids": random.integers(0, WIDTH, size=TREES * nodes).tolist(),
        "nodes_modes": np.tile(np.where(leaf, "LEAF", "BRANCH_LEQ"), TREES).tolist(),
        "nodes_truenodeids": np.tile(np.where(leaf, 0, 2 * ids + 1), TREES).tolist(),
        "nodes_falsenodeids": np.tile(np.where(leaf, 0, 2 * ids + 2), TREES).tolist(),
        "target_treeids": np.repeat(np.arange(TREES), nodes - inner).tolist(),
        "target_nodeids": np.tile(ids[leaf], TREES).tolist(),
        "target_ids": [0] * (TREES * (nodes - inner)),
        "n_targets": 1,
    }
    for name, count in (("nodes_values", nodes), ("target_weights", nodes - inner)):
        values = random.normal(size=TREES * count)
        every[f"{name}_as_tensor"] = numpy_helper.from_array(values, name)
    tree = helper.make_node(
        "TreeEnsembleRegressor", ["features"], ["sum"], domain="ai.onnx.ml", **every
    )
    # The sum of trees is in single precision, as ONNX has it.
    cast = helper.make_node("Cast", ["sum"], ["double"], to=TensorProto.DOUBLE)
    return _model([tree, cast, helper.make_node("Sigmoid", ["double"], ["score"])], {})


def _model(nodes: list[NodeProto], constants: dict[str, Any]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["n", WIDTH])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, ["n", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def manifest(data: bytes) -> Manifest:
    """One that fits these bytes."""
    schema = FeatureSchema(
        "bench", tuple(VectorField(name, "request", "float64", 0.0) for name in NAMES)
    )
    return Manifest(
        model="bench",
        version="1",
        schema=schema,
        fingerprint=schema.fingerprint,
        learner="",
        trained_from_us=0,
        trained_until_us=0,
        examples=0,
        metrics={},
        parity={"rows": 0, "max_abs_diff": 0.0},
        git_commit="",
        parent=None,
        sha256=sha256_hex(data),
        created_by="benchmark",
    )


def measure(data: bytes, loads: int) -> Times:
    """Load that model again and again, each way in turn."""
    about, rows = manifest(data), np.random.default_rng(1).normal(size=(100, WIDTH))
    plain = LoadedModel(about, data).run(rows)
    times = Times([], [], [])

    def load(runtime: Runtime) -> float:
        started = time.perf_counter()
        model = LoadedModel(about, data, runtime)
        took_ms = (time.perf_counter() - started) * 1_000
        if not np.array_equal(model.run(rows), plain):
            raise SystemExit("the scores differ: the figures would mean nothing")
        return took_ms

    for _ in range(loads):
        with tempfile.TemporaryDirectory() as folder:
            times.anew.append(load(Runtime()))
            times.kept_first.append(load(open_runtime(CPU, 1, folder)))
            times.kept.append(load(open_runtime(CPU, 1, folder)))
    return times


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/bench/model_load.json"))
    parser.add_argument("--loads", type=int, default=LOADS, help="loads of each kind")
    given = parser.parse_args()
    load = load_average()
    figures: dict[str, Any] = {}
    for name, data in (("logistic", learned()), ("network", network()), ("trees", trees())):
        figures[name] = {"onnx_bytes": len(data), **measure(data, given.loads).figures()}
        print(f"{name:10} {figures[name]}")
    packages = ("numpy", "onnx", "onnxruntime", "river")
    write(
        given.output,
        {"environment": describe(packages), "load_average_before": load, "models": figures},
    )


if __name__ == "__main__":
    main()
