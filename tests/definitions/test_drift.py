"""Settings of drift: what is refused at ``apply``, and how it is said."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from contracts.model_spec import Drift
from dataflows.definitions.drift import compile_drift
from dataflows.definitions.errors import DefinitionError


def test_the_default_and_none() -> None:
    """The default is taken as it is; None stays None."""
    compiled = compile_drift(Drift(), "model 'm'")
    assert compiled is not None
    assert asdict(compiled) == asdict(Drift())
    assert compile_drift(None, "model 'm'") is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"window_rows": 90}, "window_rows must be a whole number from 100"),
        ({"window_rows": 1_005}, "window_rows must be a multiple of 10"),
        ({"window_rows": 1_000_000, "reference_rows": 2_000_000}, "up to 500,000, not 1000000"),
        ({"window_rows": 100.0}, "whole number"),
        ({"window_rows": True}, "whole number"),
        ({"reference_rows": 1_999}, "two windows at least"),
        ({"warmup_rows": -1}, "warmup_rows must be a whole number from 0"),
        ({"renew_after_rows": 999}, "a window at least"),
        ({"ks": 1.0}, "ks must be a number above 0 and below 1, or None"),
        ({"psi": 0.0}, "psi must be a number above 0, or None"),
        ({"error": float("inf")}, "error must be"),
        ({"missing": float("nan")}, "missing must be"),
        ({"score": "0.1"}, "score must be"),
        ({"false_alarm": 0.0}, "false_alarm must be a probability"),
        ({"false_alarm": None}, "false_alarm must be a probability"),
    ],
)
def test_what_is_refused(given: dict[str, Any], problem: str) -> None:
    """A setting with which nothing, or everything, would be drift is refused by name."""
    with pytest.raises(DefinitionError, match=f"^model 'm': drift .*{problem}"):
        compile_drift(replace(Drift(), **given), "model 'm'")
