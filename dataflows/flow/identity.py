"""What a state folder was made with: it fits no other definitions, partitions and shards."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.durable_files import replace_file
from contracts.settings import DataflowSettings
from dataflows.changes.comparison import compare
from dataflows.changes.made_of import StateMadeOf, made_of, note_state, read_state
from dataflows.changes.parts import must_rebuild
from dataflows.definitions.repository import Repository
from dataflows.definitions.transform_code import code_of
from dataflows.flow.errors import EngineError
from dataflows.git_commit import git_commit
from dataflows.sources.plan_log import PlanLog

# Of what lies in the state folder; to be raised whenever older state cannot be read any more.
FORMAT = 3
_FILE = "identity.json"
DEFINITIONS = "definitions"
_TOPICS = "topics"
_GENERATION = "generation"


def check_identity(
    repository: Repository, settings: DataflowSettings, log: PlanLog, state: Path
) -> None:
    """Note the identity in a new state folder; raise EngineError if an old one's is another."""
    parts = identity_parts(repository, settings, log)
    path = state / _FILE
    if not path.exists():
        content = {
            "format": FORMAT,
            **parts,
            _TOPICS: log.topic_ids,
            _GENERATION: secrets.token_hex(16),
        }
        replace_file(path, json.dumps(content).encode())
        _note_definitions(repository, settings, log, state)
        return
    then = _read(path)
    if then.get("format") != FORMAT:
        raise EngineError(
            f"the state in {state} was written by another version of Headwater; rebuild everything "
            "from the log with `headwater replay`"
        )
    changed = [name for name in parts if parts[name] != then.get(name)]
    if changed and not (changed == [DEFINITIONS] and _fits(repository, state, then)):
        raise EngineError(
            f"{' and '.join(changed)} changed since the state in {state} was made; rebuild from "
            "the log with `headwater replay` (`headwater plan` shows what of it), or undo the "
            "change"
        )
    _check_topics(then.get(_TOPICS), log.topic_ids, state)
    if changed:
        replace_file(path, json.dumps({**then, **parts}).encode())
    _note_definitions(repository, settings, log, state)


def _fits(repository: Repository, state: Path, then: dict[str, Any]) -> bool:
    """Whether definitions changed only in what is in no state, such as a model's rollout."""
    noted = read_state(state, str(then.get(DEFINITIONS)))
    return noted is not None and not must_rebuild(compare(noted.made_of, made_of(repository)))


def _note_definitions(
    repository: Repository, settings: DataflowSettings, log: PlanLog, state: Path
) -> None:
    """Say in words what the identity has as a digest, for ``headwater plan``."""
    begins = log.begins()
    note_state(
        state,
        StateMadeOf(
            format=1,
            definitions=_digest(definitions_of(repository)),
            made_of=made_of(repository),
            git_commit=git_commit(repository.directory),
            shards=settings.shards,
            log_kind=log.kind,
            begins={one.name: begins[one.number] for one in log.partitions},
        ),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise EngineError(
            f"{path} is damaged; rebuild everything from the log with `headwater replay`"
        )
    return content


def _check_topics(then: object, now: dict[str, str], state: Path) -> None:
    """Raise EngineError if offsets in the state belong to other topics of the same names."""
    known = then if isinstance(then, dict) else {}
    anew = [name for name in now if known.get(name, now[name]) != now[name]]
    if anew:
        topics = f"topic{'s' if len(anew) > 1 else ''} {', '.join(sorted(anew))}"
        raise EngineError(
            f"{topics} {'were' if len(anew) > 1 else 'was'} made anew, or HEADWATER_LOG_URL names "
            f"another cluster, since the state in {state} was made; rebuild everything with "
            "`headwater replay`, or point it back"
        )


def generation(state: Path) -> str:
    """A name for what was made from this state folder, given to it when it was new."""
    content = json.loads((state / _FILE).read_text())
    return str(content.get(_GENERATION, ""))


def identity_parts(
    repository: Repository, settings: DataflowSettings, log: PlanLog
) -> dict[str, str]:
    """What state is made with, by name, each as a digest."""
    parts = {
        DEFINITIONS: definitions_of(repository),
        "partitions": repr([log.kind, *(partition.name for partition in log.partitions)]),
        "HEADWATER_SHARDS": repr(settings.shards),
    }
    return {name: _digest(text) for name, text in parts.items()}


def definitions_of(repository: Repository) -> str:
    """What of the definitions state is made with, as text."""
    plan = repository.plan
    # Folders may move; what they hold stays the same.
    views = tuple(
        replace(view, offline_path="moved" if view.offline_path else "") for view in plan.views
    )
    learners = [repr(repository.models[model.name].learner()) for model in plan.models]
    code = {name: code_of(repository.transforms[name]) for name in sorted(repository.transforms)}
    # What counts as drift may change: state of drift begins anew then, all else goes on.
    models = tuple(replace(model, drift=None) for model in plan.models)
    made = [plan.project, plan.topics, views, models, learners, code]
    # The schema of a model says what its vector is; what is on demand of it stands apart.
    made += [model.schema.fingerprint for model in plan.models if model.schema.on_demand]
    return repr(tuple(made))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
