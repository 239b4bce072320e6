"""Whether a part can be replayed: what is not replayed must still be what the live state has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from contracts.plan import View
from dataflows.changes.comparison import Changes, compare
from dataflows.changes.made_of import MadeOf, StateMadeOf, made_of, read_state
from dataflows.changes.parts import left_behind, must_rebuild
from dataflows.definitions.repository import Repository
from dataflows.flow.errors import EngineError
from dataflows.replay.selection import Selection


@dataclass(frozen=True)
class Gone:
    """Views and models that a state has and the definitions do not."""

    views: tuple[View, ...] = ()
    models: tuple[str, ...] = ()


def state_made_of(state: Path) -> StateMadeOf | None:
    """What a state folder was made of; None if there is none, or it does not say."""
    try:
        identity = json.loads((state / "identity.json").read_text())
        return read_state(state, str(identity["definitions"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def gone_from(state: Path, repository: Repository) -> Gone:
    """What is gone since the state was made; nothing where that is not known."""
    noted = state_made_of(state)
    if noted is None:
        return Gone()
    then, now = noted.made_of.plan, repository.plan
    views, models = {view.name for view in now.views}, {model.name for model in now.models}
    return Gone(
        tuple(view for view in then.views if view.name not in views),
        tuple(model.name for model in then.models if model.name not in models),
    )


def check_rest(state: Path, repository: Repository, selection: Selection) -> None:
    """Raise EngineError if more than the selection changed since the state was made."""
    before, changes = _changes(state, repository)
    now = {model.name for model in repository.plan.models}
    behind = left_behind(changes, selection.views, selection.models)
    # A model that reads a view is rebuilt with it, whether it does so now or did so then.
    behind += [
        f"model {model.name} reads what is replayed"
        for model in before.plan.models
        if model.name in now and model.name not in selection.models
        if set(model.views) & set(selection.views)
    ]
    if behind:
        raise EngineError(
            f"a part cannot be replayed alone ({'; '.join(dict.fromkeys(behind))}): see `headwater "
            "plan` for what belongs together, or replay everything with `headwater replay`"
        )


def check_unchanged(state: Path, repository: Repository) -> None:
    """Raise EngineError if anything changed that the state was made of."""
    _, changes = _changes(state, repository)
    if must_rebuild(changes):
        raise EngineError(
            "definitions changed since the state was made, so results alone would not fit it: see "
            "`headwater plan` for the replay that this needs"
        )


def _changes(state: Path, repository: Repository) -> tuple[MadeOf, Changes]:
    noted = state_made_of(state)
    if noted is None:
        raise EngineError(
            f"there is no state in {state} that says what it was made of, and that a part could be "
            "put into: replay everything with `headwater replay`"
        )
    return noted.made_of, compare(noted.made_of, made_of(repository))
