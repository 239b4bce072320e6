"""Whether state folders can be put together, and what to say when they cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dataflows.flow.errors import EngineError
from dataflows.replay_state.pieces import StoppedState
from dataflows.sources.partition import Position

# What two states must have in common; ``definitions`` are what they differ in.
_IN_COMMON = ("format", "partitions", "HEADWATER_SHARDS", "topics")


def check_in_common(live: StoppedState, fresh: StoppedState) -> None:
    """Raise EngineError unless both are of the same log, cut alike, and stand at the same place."""
    ours, theirs = _identity(live.folder), _identity(fresh.folder)
    for name in _IN_COMMON:
        if ours.get(name) != theirs.get(name):
            raise EngineError(
                f"{name} of the state in {live.folder} and of the replay of a part of it differ; "
                "drop the replay with `headwater replay --drop`, and rebuild everything with "
                "`headwater replay`"
            )
    if fresh.positions and not live.positions:
        raise EngineError(
            f"the state in {live.folder} has not come to the end of its first epoch, so there is "
            "nothing to keep; rebuild everything with `headwater replay`"
        )
    names = sorted({*live.positions, *fresh.positions})
    for name in names:
        here, there = live.positions.get(name), fresh.positions.get(name)
        if here is None or there is None or here.offset != there.offset:
            raise EngineError(
                f"the state in {live.folder} stands at {_place(here)} of {name}, and the replay of "
                f"a part of it at {_place(there)}; start the same replay again, or if it is ahead, "
                "`headwater run` first until that has come as far"
            )


def check_kept(live: Path, new: Path) -> None:
    """Raise EngineError if the new state's log or shards are not those of ``live``."""
    ours, theirs = _identity(live), _identity(new)
    for name in ("partitions", "HEADWATER_SHARDS"):
        if ours.get(name) != theirs.get(name):
            raise EngineError(
                f"{name} changed since the state in {live} was made, so no part of it can be "
                "kept; rebuild everything with `headwater replay`"
            )


def _identity(state: Path) -> dict[str, Any]:
    path = state / "identity.json"
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{path} is missing or damaged; rebuild everything from the log with `headwater replay`"
        ) from error
    return content if isinstance(content, dict) else {}


def _place(position: Position | None) -> str:
    return "the begin" if position is None else f"offset {position.offset}"


def lacks(what: str, state: Path) -> EngineError:
    """The error that says that a view or model is not in a state folder."""
    return EngineError(
        f"the state in {state} knows nothing of {what}; rebuild everything from the log with "
        "`headwater replay`"
    )
