"""One shard made of two that stand at the same place in the log: some views of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from contracts.plan import Plan
from dataflows.shard import Shard
from dataflows.windows.view_state import ViewState

# What ``Shard.dump`` gave, then all changes; nothing if there was no such shard.
ShardParts = Sequence[dict[str, Any]]


class MissingViewError(Exception):
    """A shard knows nothing of the view that this names."""


def grafted_shard(
    plan: Plan, number: int, partitions: int, live: ShardParts, fresh: ShardParts,
    is_fresh: Callable[[str], bool],
) -> dict[str, Any]:  # fmt: skip
    """A shard of ``plan`` as ``Shard.dump`` gives one; ``is_fresh`` tells whose a view is.

    How far the watermark has come depends on who was idle meanwhile, so the two sides may differ in
    it. What is done on either side is done: the shard goes on from the later of both. A view that
    was behind holds its rows since, and runs them, in their order, before any that come later.

    Raises:
        MissingViewError: a view is not in the side that it belongs to.
    """
    if not live or not fresh:
        # No record has come to this side yet: it knows of no time and no entity.
        empty = [Shard(plan, number, partitions).dump()]
        live, fresh = live or empty, fresh or empty
    one, other = live[-1], fresh[-1]
    clocks = one["clocks"]
    clocks.join(other["clocks"])
    views: dict[str, Any] = {}
    late: dict[str, int] = {}
    for view in plan.views:
        parts = fresh if is_fresh(view.name) else live
        if view.name not in parts[-1]["views"]:
            raise MissingViewError(view.name)
        base, *changes = (part["views"][view.name] for part in parts)
        views[view.name] = ViewState.load(view, base, changes).dump()
        if view.name in parts[-1]["late"]:
            late[view.name] = parts[-1]["late"][view.name]
    done_us = max(one["done_us"], other["done_us"])
    return {"clocks": clocks, "done_us": done_us, "late": late, "views": views}
