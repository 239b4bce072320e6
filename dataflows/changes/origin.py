"""What definitions are compared with: those that the state was made of, as far as that is known."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from contracts.plan_file import Applied, PlanFileError, plan_path, read_plan
from contracts.settings import DataflowSettings
from dataflows.changes.compiled import Compiled
from dataflows.changes.made_of import MadeOf, StateMadeOf, anywhere, read_state

Kind = Literal["state", "applied", "unknown", "nothing"]

_UNSAID = "the state does not say what it was made of (an older version of Headwater made it)"


@dataclass(frozen=True)
class Origin:
    """What there is already.

    Attributes:
        kind: ``state``: what the state was made of; ``applied``: the state does not say so, this is
            what was applied last; ``unknown``: there is a state and nothing says of what;
            ``nothing``: there is no state.
        made_of: the definitions; None if unknown or nothing.
        noted: what the state says of itself; None if nothing.
        applied: what was applied last, folders counted from the repository; None if nothing was.
        fits: whether the state's own digest of its definitions is that of the new ones.
        note: what people should know of where this is from; empty for nothing.
    """

    kind: Kind
    made_of: MadeOf | None
    noted: StateMadeOf | None
    applied: Applied | None
    fits: bool
    note: str = ""


def origin_of(folder: Path, settings: DataflowSettings, new: Compiled) -> Origin:
    """What the repository in ``folder`` has of state and applied definitions.

    Args:
        folder: of the repository.
        settings: which say where the state is.
        new: the definitions that are to be compared with it.
    """
    applied = _applied(folder)
    digest = _digest_of(settings.state_dir)
    if digest is None:
        return Origin("nothing", None, None, applied, fits=False)
    fits = digest == new.definitions
    noted = read_state(settings.state_dir, digest)
    if noted is not None:
        return Origin("state", _as_served(noted.made_of, applied), noted, applied, fits)
    if fits:
        made_of = _as_served(new.made_of, applied)
        return Origin("state", made_of, None, applied, fits, f"{_UNSAID}, but fits")
    if applied is None:
        return Origin("unknown", None, None, None, fits, f"{_UNSAID}, and nothing was applied")
    made_of = MadeOf(applied.plan, None, None, applied.services)
    note = f"{_UNSAID}; compared with what was applied last instead"
    return Origin("applied", made_of, None, applied, fits, note)


def _as_served(made_of: MadeOf, applied: Applied | None) -> MadeOf:
    """Services are in no state: readers know those that were applied last."""
    services = {} if applied is None else applied.services
    return replace(made_of, services=services)


def _applied(folder: Path) -> Applied | None:
    try:
        applied = read_plan(plan_path(folder))
    except PlanFileError:
        return None
    return replace(applied, plan=anywhere(applied.plan, folder))


def _digest_of(state: Path) -> str | None:
    """The digest of definitions in the state's identity; "" if damaged, None if there is none."""
    try:
        content = json.loads((state / "identity.json").read_text())
    except OSError:
        return None
    except ValueError:
        return ""
    return str(content.get("definitions", "")) if isinstance(content, dict) else ""
