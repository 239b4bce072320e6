"""One shard made of two that stand at the same place in the log: some views of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from contracts.plan import Plan
from dataflows.erasure.tombstones import Tombstones
from dataflows.shard import Shard

# What ``Shard.dump`` gave, then all changes; nothing if there was no such shard.
ShardParts = Sequence[dict[str, Any]]


class MissingViewError(Exception):
    """A shard knows nothing of the view that this names."""


class ShardGraft:
    """Puts shards of a plan together.

    How far the watermark has come depends on who was idle meanwhile, so the two sides may differ in
    it. What is done on either side is done: the shard goes on from the later of both. A view that
    was behind holds its rows since, and runs them, in their order, before any that come later.
    """

    def __init__(
        self,
        plan: Plan,
        partitions: int,
        fresh_views: Collection[str],
        tombstones: Tombstones | None,
    ) -> None:
        """``fresh_views`` are the views of the one side; all others are of the live one.

        ``tombstones`` are those that the next run would look at: the sides may not have heard of
        the same ones.
        """
        self._partitions = partitions
        self._tombstones = tombstones
        sides = [view.name in fresh_views for view in plan.views]
        self._live_plan, self._fresh_plan = (
            replace(
                plan,
                views=tuple(v for v, is_f in zip(plan.views, sides, strict=True) if is_f is side),
                models=(),
            )
            for side in (False, True)
        )

    def joined(self, number: int, live: ShardParts, fresh: ShardParts) -> dict[str, Any]:
        """A shard as ``Shard.dump`` gives one.

        Raises:
            MissingViewError: a view is not in the side that it belongs to.
        """
        one = self._dump(self._live_plan, number, live)
        other = self._dump(self._fresh_plan, number, fresh)
        clocks = one["clocks"]
        clocks.join(other["clocks"])
        return {
            **one,
            "clocks": clocks,
            "done_us": max(one["done_us"], other["done_us"]),
            "late": {**one["late"], **other["late"]},
            "views": {**one["views"], **other["views"]},
        }

    def _dump(self, plan: Plan, number: int, parts: ShardParts) -> dict[str, Any]:
        if parts:
            for view in plan.views:
                if view.name not in parts[-1]["views"]:
                    raise MissingViewError(view.name)
            shard = Shard.load(plan, number, self._partitions, list(parts))
        else:
            # No record has come to this side yet: it knows of no time and no entity.
            shard = Shard(plan, number, self._partitions)
        if self._tombstones is not None:
            shard.forget(self._tombstones)
        data = shard.dump()
        names = {view.name for view in plan.views}
        return {**data, "late": {k: n for k, n in data["late"].items() if k in names}}
