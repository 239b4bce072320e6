"""What a state folder is made of: pieces that each belong to a view, a model, or to the flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.plan import Plan
from dataflows import tables
from dataflows.flow.errors import EngineError
from dataflows.flow.recovery import Snapshot
from dataflows.replay.selection import Selection
from dataflows.replay_state.positions import (
    LOG_STEP,
    SHARDS_STEP,
    content_of,
    positions_in,
    read_snapshots,
)
from dataflows.sources.partition import Position

_FLOW = "headwater"
TABLES = f"{_FLOW}.tables"
EVALUATION = f"{_FLOW}.evaluation"
VERSIONS = f"{_FLOW}.model_repository"
# Pieces of the flow as a whole that are taken over as they are.
FLOW_STEPS = (f"{_FLOW}.dead_letters", f"{_FLOW}.drift_alerts")
# A step, and which of its pieces.
PieceName = tuple[str, str]


@dataclass(frozen=True)
class StoppedState:
    """A state folder that no flow runs on.

    Attributes:
        folder: where it lies.
        snapshots: what the next run on it resumes from.
        positions: where that is in the log.
    """

    folder: Path
    snapshots: Mapping[PieceName, Snapshot]
    positions: Mapping[str, Position]

    @property
    def has_begun(self) -> bool:
        """Whether any partition has said anything, which all shards and models hear."""
        return any(step == SHARDS_STEP for step, _ in self.snapshots)

    def content(self, piece: PieceName) -> object:
        """What is said of a piece, None if nothing; raise EngineError if it cannot be read."""
        snapshot = self.snapshots.get(piece)
        return None if snapshot is None else content_of(snapshot, self.folder)


def read_stopped(folder: Path) -> StoppedState:
    """Look at a state folder, which stays as it is.

    Raises:
        EngineError: it is damaged, or holds what this version of Headwater does not know.
    """
    snapshots = read_snapshots(folder)
    for one in snapshots:
        if not _is_known(one):
            raise EngineError(
                f"the state in {folder} has a step {one.step!r} that nobody knows how to take "
                "apart; rebuild everything from the log with `headwater replay`"
            )
    by_name = {(one.step, one.key): one for one in snapshots}
    return StoppedState(folder, by_name, positions_in(snapshots, folder))


def model_step(model: str) -> PieceName:
    """What a model learns and waits for."""
    return f"{_FLOW}.model_{model}", model


def drift_step(model: str) -> PieceName:
    """A model's drift monitor."""
    return f"{_FLOW}.drift_{model}", model


def pieces_of_model(plan: Plan, name: str) -> list[PieceName]:
    """All pieces that belong to a model of the plan, with those of its tables."""
    model = plan.model(name)
    made = [tables.examples_table(model, Path()), tables.outcomes_table(model, Path())]
    pieces = [model_step(name), (VERSIONS, name), (EVALUATION, name)]
    if model.drift is not None:
        pieces.append(drift_step(name))
    return pieces + [(TABLES, table.name) for table in made]


def pieces_of_view(plan: Plan, name: str) -> list[PieceName]:
    """All pieces that belong to a view of the plan, but for its part of the shards."""
    view = plan.view(name)
    return [(TABLES, tables.view_table(view, Path()).name)] if view.offline_path else []


def check_closed(plan: Plan, selection: Selection) -> None:
    """Raise ValueError unless each model is on the side of all the views that it reads."""
    for model in plan.models:
        sides = {view in selection.views for view in model.views}
        if sides - {model.name in selection.models}:
            raise ValueError(f"model {model.name!r} and its views must be selected together")


def _is_known(one: Snapshot) -> bool:
    known = {LOG_STEP, SHARDS_STEP, TABLES, EVALUATION, VERSIONS, *FLOW_STEPS}
    return one.step in known or (one.step, one.key) in (model_step(one.key), drift_step(one.key))
