"""The plan as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.feature_schema import FeatureSchema, VectorField
from contracts.plan import Aggregate, Column, ModelPlan, Plan, Topic, View
from contracts.plan_file import PlanFileError, plan_path, read_plan, write_plan

SCHEMA = FeatureSchema(
    "shop",
    (
        VectorField("amount", "request", "float64", 0.5),
        VectorField(
            "v:n", "feature", "int64", 0.0, "v", "n", ("a", "b"), ("string", "int64"), 60.0
        ),
    ),
)
PLAN = Plan(
    project="shop",
    topics=(Topic("t", (Column("a", "string", False), Column("n", "bool", True)), "at", 5, "a"),),
    views=(
        View(
            "v",
            "t",
            ("a", "b"),
            ("string", "int64"),
            (Aggregate("n", "int64", "n", "count", 60, 6),),
            0,
            "/data/offline",
        ),
    ),
    models=(ModelPlan("m", "t", "a", "t", "a", "n > 0", 1, 2, ("v",), SCHEMA),),
)
SERVICES = {"s": [("v", "n")], "empty": []}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Plan and services come back as they were, whatever folder must be made for them."""
    path = plan_path(tmp_path / "repo")
    write_plan(path, PLAN, SERVICES)
    applied = read_plan(path)
    assert applied.plan == PLAN
    assert applied.plan.models[0].schema.fingerprint == SCHEMA.fingerprint
    assert applied.services == {"s": (("v", "n"),), "empty": ()}


def test_the_same_plan_is_not_written_again(tmp_path: Path) -> None:
    """Writing what is there already leaves the file alone and says so; a change does not."""
    path = tmp_path / "plan.json"
    assert write_plan(path, PLAN, SERVICES)
    before = path.stat()
    assert not write_plan(path, PLAN, dict(reversed(SERVICES.items())))
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert write_plan(path, PLAN, {"s": []})
    assert read_plan(path).services == {"s": ()}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 2}', b"\xff".decode("latin-1"), '{"format": 1}']
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is no plan, or one of another layout, says to apply again."""
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(PlanFileError, match="headwater apply"):
        read_plan(path)


def test_no_file_says_to_apply(tmp_path: Path) -> None:
    """Before the first apply there is no plan, and the error says what to do."""
    with pytest.raises(PlanFileError, match="run `headwater apply` first"):
        read_plan(plan_path(tmp_path))


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """Where no folder can be made, writing fails and names the place."""
    (tmp_path / "data").touch()
    with pytest.raises(PlanFileError, match="cannot write"):
        write_plan(plan_path(tmp_path), PLAN, SERVICES)
