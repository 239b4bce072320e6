"""Rollouts that decide themselves: how soon a bad challenger goes, how often an equal one does.

Simulated are requests of entities with different risks, who is assigned to whom, labels that come
hours later, and two versions that score; what decides is the evaluator's own policy. Each run has a
seed of its own and ends when the challenger is promoted or rolled back. Champion and challenger are
both imperfect, each with errors of its own. ``paired``: the scorer also scores rows with the
version that did not answer, as it does; ``assigned``: it had no time to, so that each row has one
score. On probation a version that was equal until its promotion goes on as it was, or turns bad.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._environment import describe, write
from benchmarks._reach import Reach, hold
from contracts.assignment import is_challenged
from contracts.model_channels import Channels, Decision
from contracts.plan import RolloutPlan
from dataflows.served.comparison import JudgedRow
from dataflows.served.losses import losses
from dataflows.served.rollout import RolloutPolicy, Situation

Floats = NDArray[np.float64]
PLAN = RolloutPlan((0.05, 0.2, 0.5), 300, 0.0, 0.01, 3_600_000_000)
# Ten times as many chances for a false alarm.
LONGER = replace(PLAN, labels_per_step=3_000)
PROBATION = replace(PLAN, probation_labels=1_000)
ENTITIES = 3_000
# A look of the evaluator comes after so many labels of all rows.
LABELS_PER_LOOK = 20
REQUESTS_MAX = 60_000
NO_TRUTHS = np.empty(0)


@dataclass(frozen=True)
class World:
    """Versions of a run: what each adds to the true log odds of a row.

    Attributes:
        champion: log odds of a row -> what the champion says.
        challenger: the same.
        promoted: what the challenger says once it is champion; None for the same.
    """

    champion: Callable[[Floats, np.random.Generator], Floats]
    challenger: Callable[[Floats, np.random.Generator], Floats]
    promoted: Callable[[Floats, np.random.Generator], Floats] | None = None


def noisy(scale: float) -> Callable[[Floats, np.random.Generator], Floats]:
    """A version that errs by so much."""
    return lambda logits, generator: logits + scale * generator.normal(size=len(logits))


def flipped(logits: Floats, generator: np.random.Generator) -> Floats:
    """A version that learned from flipped labels."""
    return -noisy(0.5)(logits, generator)


WORLDS = {
    "equal": World(noisy(0.5), noisy(0.5)),
    "labels flipped": World(noisy(0.5), flipped),
    "mildly worse": World(noisy(0.5), noisy(0.8)),
    "worse": World(noisy(0.5), noisy(1.2)),
    "labels flipped once promoted": World(noisy(0.5), noisy(0.5), flipped),
    "worse once promoted": World(noisy(0.5), noisy(0.5), noisy(1.2)),
}


@dataclass
class Run:
    """How a run ended: ``action`` of the last decision, and on how many labelled scores.

    Of a run with a probation that is ``set``, for the champion before has left.
    """

    action: str
    labels: int
    requests: int


def simulate(world: World, seed: int, plan: RolloutPlan, count: int, *, is_paired: bool) -> Run:
    """One rollout from its first share to its end."""
    generator = np.random.default_rng(seed)
    entity_logits = -1.4 + 1.2 * generator.normal(size=count)
    entities = generator.integers(count, size=REQUESTS_MAX)
    logits = entity_logits[entities] + 0.8 * generator.normal(size=REQUESTS_MAX)
    truths = (generator.random(REQUESTS_MAX) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    costs = {
        "1": _losses(truths, world.champion(logits, generator)),
        "2": _losses(truths, world.challenger(logits, generator)),
    }
    later = (
        costs
        if world.promoted is None
        else {**costs, "2": _losses(truths, world.promoted(logits, generator))}
    )
    known = np.argsort(np.arange(REQUESTS_MAX) + generator.exponential(500, size=REQUESTS_MAX))
    policy = RolloutPolicy("late", plan, "binary")
    channels = Channels(champion="1")
    for first in range(0, REQUESTS_MAX, LABELS_PER_LOOK):
        found = policy.look(Situation(channels, ["1", "2"], []), first, first)
        if isinstance(found, Decision):
            channels = found.new
            if channels.champion == "2":
                costs = later
            if channels.challenger is None:
                return Run(found.action, int(found.figures["labels"]), first)
        rows = []
        for row in known[first : first + LABELS_PER_LOOK].tolist():
            challenged = is_challenged(channels.salt, str(entities[row]), channels.challenger_share)
            assigned = "challenger" if challenged else "champion"
            for version, cost in costs.items():
                is_answer = (version == channels.challenger) == challenged
                if is_answer or is_paired:
                    loss, unit = float(cost[row]), int(entities[row])
                    rows.append(JudgedRow(version, row, assigned, is_answer, loss, unit))
        policy.add(rows)
    return Run("none", 0, REQUESTS_MAX)


def _losses(truths: Floats, logits: Floats) -> Floats:
    return losses("binary", truths, 1 / (1 + np.exp(-logits)), NO_TRUTHS)


def measure(
    name: str, runs: int, plan: RolloutPlan = PLAN, count: int = ENTITIES, *, is_paired: bool
) -> dict[str, Any]:
    """Runs of one world with so many entities, as a row of the report."""
    world = WORLDS[name]
    done = [simulate(world, seed, plan, count, is_paired=is_paired) for seed in range(runs)]
    back = [run.labels for run in done if run.action == "rollback"]
    return {
        "challenger": name,
        "scores": "paired" if is_paired else "assigned",
        "entities": count,
        "labels_per_step": plan.labels_per_step,
        "probation_labels": plan.probation_labels,
        "runs": runs,
        "rolled_back": len(back),
        "promoted": sum(run.action in ("promote", "set") for run in done),
        "labels_to_rollback_p50": float(np.median(back)) if back else None,
        "labels_to_rollback_max": max(back, default=None),
        "requests_p50": float(np.median([run.requests for run in done])),
    }


def reaches(rows: list[dict[str, Any]]) -> list[Reach]:
    """Whoever learned nonsense goes soon; whoever is as good stays."""
    found = []
    for row in rows:
        name = (
            f"{row['challenger']}, {row['scores']} scores, {row['entities']} entities, "
            f"{row['labels_per_step']} labels a step, {row['probation_labels']} on probation"
        )
        share = row["rolled_back"] / row["runs"]
        if row["challenger"].startswith("labels flipped"):
            most = row["labels_to_rollback_max"]
            found.append(Reach(f"{name}: share rolled back", share, least=1.0))
            found.append(Reach(f"{name}: most labels until then", most or math.nan, most=500))
        if row["challenger"] == "equal":
            # Less than 1 %: of 200 runs one may.
            found.append(Reach(f"{name}: share rolled back", share, most=0.0099))
    return found


def main() -> None:
    """Run all worlds and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    rows = [
        measure(name, arguments.runs, is_paired=is_paired)
        for name, world in WORLDS.items()
        for is_paired in (True, False)
        if world.promoted is None
    ]
    rows += [
        measure(name, arguments.runs, PROBATION, is_paired=True)
        for name, world in WORLDS.items()
        if name == "equal" or world.promoted is not None
    ]
    rows.append(measure("equal", arguments.runs, LONGER, is_paired=True))
    # Few of whom some are always harder to tell than others.
    rows += [measure("equal", arguments.runs, PLAN, count, is_paired=False) for count in (50, 300)]
    for row in rows:
        print(row)
    write(
        arguments.output,
        {**describe(["numpy"]), "plan": str(PLAN), "longer_plan": str(LONGER), "results": rows},
    )
    hold(reaches(rows))


if __name__ == "__main__":
    main()
