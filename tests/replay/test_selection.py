"""What belongs together is what a fixpoint over "a model reads a view" says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.plan import ModelPlan, Plan
from dataflows.definitions.repository import Repository
from dataflows.replay.selection import Selection, SelectionError, closed, everything, restricted

VIEWS = [f"v{number}" for number in range(6)]


def _plan(base: Plan, reads: list[set[str]]) -> Plan:
    view, model = base.views[0], base.models[0]
    models: list[ModelPlan] = [
        replace(model, name=f"m{number}", views=tuple(sorted(views)))
        for number, views in enumerate(reads)
    ]
    return replace(
        base, views=tuple(replace(view, name=name) for name in VIEWS), models=tuple(models)
    )


@given(data=st.data())
def test_selections_are_closed(repository: Repository, data: st.DataObject) -> None:
    """The selection is the set of all that a chain of reads leads to, and no more."""
    reads = data.draw(st.lists(st.sets(st.sampled_from(VIEWS), min_size=1, max_size=3), max_size=4))
    plan = _plan(repository.plan, reads)
    views = data.draw(st.sets(st.sampled_from(VIEWS)))
    models = data.draw(st.sets(st.sampled_from([m.name for m in plan.models]))) if reads else set()
    edges = {(f"m{number}", view) for number, read in enumerate(reads) for view in read}
    reached = {*views, *models}
    for _ in range(len(VIEWS) + len(reads)):
        reached |= {b for a, b in edges if a in reached} | {a for a, b in edges if b in reached}
    found = closed(plan, views, models)
    assert {*found.views, *found.models} == reached


def test_restricted_repositories(repository: Repository) -> None:
    """All topics stay, so that partitions keep their numbers; of all else the selection does."""
    plan = repository.plan
    part = restricted(repository, closed(plan, [], ["late_order"]))
    assert part.plan.topics == plan.topics
    assert [model.name for model in part.plan.models] == ["late_order"]
    nothing = restricted(repository, Selection((), ()))
    assert (nothing.plan.views, nothing.plan.models, nothing.whole) == ((), (), plan)
    assert restricted(repository, everything(plan)) == repository


def test_unknown_names(repository: Repository) -> None:
    """They are told with the names that there are."""
    with pytest.raises(SelectionError, match=r"no view 'x'; it has .*user_orders"):
        closed(repository.plan, ["x"], [])
    with pytest.raises(SelectionError, match="no model 'y'; it has late_order"):
        closed(repository.plan, [], ["y"])
