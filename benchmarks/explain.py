"""How long an explanation takes the scorer, without its way over the wire.

60 fields that all differ from the baseline; the models of the benchmark of loading. Linear: what
Explain does for each row once the weights are known. Else: 200 orders of the fields, which are
11,800 mixtures.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._environment import describe, load_average, write
from benchmarks.model_load import WIDTH, learned, manifest, network, trees
from scorer.explain import Contrast, Explanation, explain_linear
from scorer.linear_graph import linear_form
from scorer.model import INPUT, OUTPUT, LoadedModel
from scorer.shapley import explain_shapley

SAMPLES = 200
TIMES = 20


def contrast_of(model: LoadedModel) -> Contrast:
    """A row at random against a baseline of zeros."""
    row, baseline = np.random.default_rng(2).normal(size=WIDTH), np.zeros(WIDTH)
    score, baseline_score = (float(model.run(one[None])[0]) for one in (row, baseline))
    return Contrast(row, baseline, score, baseline_score)


def timed(explain: Callable[[], Explanation], times: int) -> dict[str, Any]:
    """The median time, and the largest standard error beside the largest contribution."""
    took_ms = []
    for _ in range(times):
        started = time.perf_counter()
        found = explain()
        took_ms.append((time.perf_counter() - started) * 1_000)
    return {
        "method": found.method.value,
        "median_ms": round(statistics.median(took_ms), 3),
        "samples": found.samples,
        "contribution_max": float(np.abs(found.contributions).max()),
        "standard_error_max": float(found.standard_errors.max()),
        "residual": found.residual,
    }


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/bench/explain.json"))
    parser.add_argument("--times", type=int, default=TIMES, help="explanations of each model")
    given = parser.parse_args()
    load = load_average()
    figures: dict[str, Any] = {}
    data = learned()
    model = LoadedModel(manifest(data), data)
    form, contrast = linear_form(data, INPUT, OUTPUT), contrast_of(model)
    assert form is not None
    figures["logistic"] = timed(partial(explain_linear, form, contrast), given.times)
    for name, data in (("network", network()), ("trees", trees())):
        model = LoadedModel(manifest(data), data)
        explain = partial(explain_shapley, model.run, contrast_of(model), SAMPLES, 0)
        figures[name] = timed(explain, given.times)
    for name, one in figures.items():
        print(f"{name:10} {one}")
    packages = ("numpy", "onnx", "onnxruntime")
    write(
        given.output,
        {"environment": describe(packages), "load_average_before": load, "models": figures},
    )


if __name__ == "__main__":
    main()
