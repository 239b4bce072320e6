"""What was removed where, and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from contracts.plan import Plan
from dataflows.erasure.wanted import Wanted


@dataclass(frozen=True)
class Removed:
    """Rows of one thing in one store."""

    where: str
    name: str
    rows: int


@dataclass(frozen=True)
class Remains:
    """What is not removed now, and what becomes of it or what can be done about it."""

    where: str
    what: str


@dataclass
class Report:
    """What `headwater forget` did.

    Attributes:
        is_dry: whether it only counted.
        join_keys: of the entities.
        entities: how many were named.
        tombstones: numbers of those that were left.
        removed: by store.
        remains: what is not removed by it.
    """

    is_dry: bool
    join_keys: tuple[str, ...]
    entities: int
    tombstones: tuple[int, ...] = ()
    removed: list[Removed] = field(default_factory=list)
    remains: list[Remains] = field(default_factory=list)

    def add(self, where: str, counts: dict[str, int]) -> None:
        """Add what a store gave, by name."""
        self.removed += [Removed(where, name, rows) for name, rows in sorted(counts.items())]

    @property
    def rows(self) -> int:
        """All rows together."""
        return sum(one.rows for one in self.removed)

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "dry_run": self.is_dry,
            "join_keys": list(self.join_keys),
            "entities": self.entities,
            "tombstones": list(self.tombstones),
            "removed": [vars(one) for one in self.removed],
            "remains": [vars(one) for one in self.remains],
        }


def what_remains(
    plan: Plan, wanted: list[Wanted], prediction_topic: str, examples: dict[str, int]
) -> list[Remains]:
    """What an erasure does not reach.

    Args:
        plan: what is in definitions.py.
        wanted: who.
        prediction_topic: empty for none.
        examples: model -> how many examples were found.
    """
    views = {view.name: view for one in wanted for view in one.views(plan)}
    models = {model.name: model for one in wanted for model in one.models(plan)}
    topics = {view.topic for view in views.values()}
    topics |= {model.spine_topic for model in models.values()}
    found = [
        Remains(
            "state",
            "windows, rows of open days and predictions that wait for their label are let go when "
            "`headwater run` starts, and are gone from its files some epochs later",
        ),
        Remains(
            "log",
            f"records in {', '.join(sorted(topics))} and their .dlq topics stay until retention or "
            "compaction removes them, which is yours to set; runs and replays pass over them",
        ),
    ]
    if prediction_topic:
        found.append(
            Remains("log", f"requests in {prediction_topic} stay for as long as you retain them")
        )
    taught = sorted(name for name in models if examples.get(name))
    if taught:
        found.append(
            Remains(
                "models",
                f"what {', '.join(taught)} has learned from the examples stays in its versions; "
                "`headwater replay` learns anew without them",
            )
        )
    names = {name for one in wanted for name in one.names}
    segmented = sorted(name for name, model in models.items() if names.intersection(model.segments))
    if segmented:
        found.append(
            Remains(
                "evaluation",
                f"figures of {', '.join(segmented)} by segment name segments, entities among them; "
                "`headwater replay` counts anew without them",
            )
        )
    return found
