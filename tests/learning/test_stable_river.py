"""The same versions from every process, whatever the seed of its hashes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

PROGRAM = """
    import hashlib
    import sys
    # River takes them along where they are, and then longer to import than all else.
    sys.modules |= dict.fromkeys(("sklearn", "sqlalchemy"))
    import numpy as np
    from river import compose, ensemble, linear_model, preprocessing
    from dataflows.learning.stable_river import keep_order_of_names
    from dataflows.river_onnx import to_onnx

    keep_order_of_names()
    names = [f"number_{i}" for i in range(12)]
    model = ensemble.BaggingClassifier(
        compose.Select(*names) | preprocessing.StandardScaler()
        | linear_model.LogisticRegression(), n_models=2, seed=1).clone()
    for row in np.random.default_rng(1).normal(size=(50, 12)).tolist():
        model.learn_one(dict(zip(names, row)), row[0] > row[1])
    print(hashlib.sha256(to_onnx(model, names)).hexdigest())
"""


def test_selections_keep_the_order_of_their_names() -> None:
    """Processes with other seeds export the same bytes, clones inside of ensembles included."""
    root = str(Path(__file__).parents[2])
    said = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM)],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": root,
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
