"""An estimator that can no longer be exported."""

from __future__ import annotations

from typing import Any

import numpy as np
from river import tree

from dataflows.learning.publication import Progress, make_version
from dataflows.learning.records import RefusedVersion
from tests.learning.rows import SCHEMA, spec


def test_what_it_has_grown_into_is_refused_and_the_flow_goes_on() -> None:
    """A version that cannot be exported is a refused one with its reason, not an error."""
    estimator: Any = tree.HoeffdingTreeClassifier(40, delta=0.05, leaf_prediction="mc")
    name = SCHEMA.names[0]
    for place in range(400):
        estimator.learn_one({name: "ab"[place % 2]}, place % 2 == 0)
    progress = Progress(3, 100, 0, 90, 400, {})
    made = make_version(spec(), estimator, np.empty((0, len(SCHEMA.names))), progress)
    assert isinstance(made, RefusedVersion)
    assert (made.version, made.boundary_us) == (3, 100)
    assert "model late version 3" in made.reason
    assert "category codes" in made.reason
