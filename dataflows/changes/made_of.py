"""What definitions come to, as plain data: kept beside the state that was made with them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from contracts.durable_files import replace_file
from contracts.plan import Plan
from dataflows.definitions.transform_code import code_of

if TYPE_CHECKING:
    from dataflows.definitions.repository import Repository

FORMAT: Final = 1
_FILE = "plan.json"


@dataclass(frozen=True)
class MadeOf:
    """Definitions, compiled.

    Attributes:
        plan: folders in it count from that of the repository, so that it may be anywhere.
        code: view -> SHA-256 of its function's code, for views that have one; None if not known.
        learners: model -> its learner as Python shows it; None if not known.
        services: feature service -> its (view, feature) pairs, in order.
    """

    plan: Plan
    code: dict[str, str] | None
    learners: dict[str, str] | None
    services: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class StateMadeOf:
    """What a state folder was made of.

    Attributes:
        format: number of the file's layout.
        definitions: their digest in the state's identity: with another one there this is not it.
        made_of: the definitions.
        git_commit: the commit that they were from, as far as that was known.
        shards: into how many the entities are parted.
        log_kind: what offsets mean, ``file`` or ``kafka``.
        begins: partition (``TOPIC/PARTITION``) -> the first offset that the log had then.
    """

    format: Literal[1]
    definitions: str
    made_of: MadeOf
    git_commit: str
    shards: int
    log_kind: str
    begins: dict[str, int]


def made_of(repository: Repository) -> MadeOf:
    """The definitions of a loaded repository."""
    plan = repository.plan
    code = {
        name: hashlib.sha256(code_of(repository.transforms[name]).encode()).hexdigest()
        for name in sorted(repository.transforms)
    }
    learners = {model.name: repr(repository.models[model.name].learner()) for model in plan.models}
    # Through the very form in which it is kept, so that a whole number is equal to what comes back.
    return _decoded(
        MadeOf(anywhere(plan, repository.directory), code, learners, repository.services)
    )


def anywhere(plan: Plan, directory: Path) -> Plan:
    """The plan with folders inside of ``directory`` counted from there."""
    root = directory.absolute()
    views = []
    for view in plan.views:
        path = Path(view.offline_path)
        if view.offline_path and path.is_relative_to(root):
            views.append(replace(view, offline_path=str(path.relative_to(root))))
        else:
            views.append(view)
    return replace(plan, views=tuple(views))


def note_state(state: Path, noted: StateMadeOf) -> None:
    """Say in the state folder what it is made of.

    Where its log began is what was said first, and what says so already is left alone.
    """
    path = state / _FILE
    before = _read(path)
    if before is not None:
        begins = {name: before.begins.get(name, at) for name, at in noted.begins.items()}
        noted = replace(noted, begins=begins)
    if before != noted:
        replace_file(path, msgspec.json.format(msgspec.json.encode(noted), indent=1) + b"\n")


def read_state(state: Path, definitions: str) -> StateMadeOf | None:
    """What the state is made of, its identity's digest of definitions being ``definitions``.

    None for a state that does not say so: one of an older version of Headwater, or damaged.
    """
    found = _read(state / _FILE)
    return found if found is not None and found.definitions == definitions else None


def _read(path: Path) -> StateMadeOf | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=StateMadeOf)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _decoded(made: MadeOf) -> MadeOf:
    return msgspec.json.decode(msgspec.json.encode(made), type=MadeOf)
