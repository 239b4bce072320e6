"""Bounds of benchmarks: told beside the figures, and missed loudly."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest

from benchmarks._reach import Reach, hold

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Each has figures that a decision or the documentation relies on.
HELD = (
    "learning",
    "pending",
    "label_to_served",
    "rollout",
    "rollback",
    "train",
    "drift",
    "evaluation",
)


def test_a_bound_that_is_missed_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    """All lines are printed first; what is met says nothing more."""
    fine = [Reach("rate a second", 10.0, least=10.0), Reach("p99 ms", 2.0, most=2.0)]
    hold(fine)
    assert capsys.readouterr().out.count("met") == 2
    with pytest.raises(SystemExit, match="1 of 3 bounds are missed") as end:
        hold([*fine, Reach("alerts", 1.0, most=0.0)])
    assert isinstance(end.value.code, str), "a text is exit code 1"
    assert "MISSED alerts: 1 (wanted <= 0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "is_met"),
    [(1.0, True), (2.0, True), (0.999, False), (2.01, False), (math.nan, False)],
)
def test_both_bounds_count(found: float, is_met: bool) -> None:
    """A figure may have a least and a most; one that is no number meets nothing."""
    reach = Reach("AUC", found, least=1.0, most=2.0)
    assert reach.is_met == is_met
    assert reach.described()["is_met"] == is_met


@pytest.mark.parametrize("name", HELD)
def test_benchmarks_hold_their_bounds(name: str) -> None:
    """Their last act is to hold them, after the figures are written."""
    tree = ast.parse((BENCHMARKS / f"{name}.py").read_text(encoding="utf-8"))
    (main,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    called = [
        node.func.id
        for node in ast.walk(main)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert {"write", "hold"} <= set(called)
    last = main.body[-1]
    assert isinstance(last, ast.Expr)
    assert isinstance(last.value, ast.Call)
    assert isinstance(last.value.func, ast.Name)
    assert last.value.func.id == "hold"
