"""What a state folder was made with: it fits no other definitions, partitions and shards."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import replace
from pathlib import Path

from contracts.durable_files import replace_file
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.flow.errors import EngineError
from dataflows.sources.plan_log import PlanLog

_FILE = "identity.json"
_GENERATION = "generation"


def check_identity(
    repository: Repository, settings: DataflowSettings, log: PlanLog, state: Path
) -> None:
    """Note the identity in a new state folder; raise EngineError if an old one's is another."""
    now = _identity(repository, settings, log)
    path = state / _FILE
    if not path.exists():
        content = {**now, _GENERATION: secrets.token_hex(16)}
        replace_file(path, json.dumps(content).encode())
        return
    try:
        then = json.loads(path.read_text())
        changed = [name for name in now if now[name] != then.get(name)]
    except (ValueError, AttributeError) as error:
        raise EngineError(
            f"{path} is damaged; rebuild everything from the log with `headwater replay`"
        ) from error
    if changed:
        raise EngineError(
            f"{' and '.join(changed)} changed since the state in {state} was made; rebuild "
            "everything from the log with `headwater replay`, or undo the change"
        )


def generation(state: Path) -> str:
    """A name for what was made from this state folder, given to it when it was new."""
    content = json.loads((state / _FILE).read_text())
    return str(content.get(_GENERATION, ""))


def _identity(repository: Repository, settings: DataflowSettings, log: PlanLog) -> dict[str, str]:
    plan = repository.plan
    # Folders may move; what they hold stays the same.
    views = tuple(
        replace(view, offline_path="moved" if view.offline_path else "") for view in plan.views
    )
    learners = [repr(repository.models[model.name].learner()) for model in plan.models]
    parts = {
        "definitions": repr((plan.project, plan.topics, views, plan.models, learners)),
        "partitions": repr([log.kind, *(partition.name for partition in log.partitions)]),
        "HEADWATER_SHARDS": repr(settings.shards),
    }
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in parts.items()}
