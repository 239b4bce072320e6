"""When a replay beside a running dataflow is close enough behind it, and where a pass ends."""

from __future__ import annotations

from pathlib import Path

from dataflows.flow.engine import Summary
from dataflows.flow.metrics import current_progress
from dataflows.flow.target import Cut, Target, TargetOf
from dataflows.sources.plan_log import PlanLog

# The dataflow stands still while what came during the last pass is read.
_NEAR_SECONDS = 2.0


def is_near(summary: Summary, before: Summary | None) -> bool:
    """Whether another pass would hardly shorten the pause."""
    if summary.seconds < _NEAR_SECONDS:
        return True
    # Each pass has what came during the one before: no less means that it never will be less.
    return before is not None and summary.seconds > 0.8 * before.seconds


def behind_the_live(state: Path) -> TargetOf:
    """A cut no further than the running dataflow has read; at the beginning where that is unknown.

    What is to be put together with its state must not be ahead of it.
    """

    def target(log: PlanLog) -> Target:
        begins = log.begins()
        known: dict[str, int] = {}
        for said in current_progress(state):
            for name, one in said.partitions.items():
                known[name] = max(one.offset, known.get(name, 0))
        return Cut({p.number: known.get(p.name, begins[p.number]) for p in log.partitions})

    return target
