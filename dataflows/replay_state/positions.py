"""Where the next run on a state folder goes on: in the log, and in event time."""

from __future__ import annotations

import pickle
import sqlite3
from pathlib import Path
from typing import Any

from dataflows.flow.errors import EngineError
from dataflows.flow.recovery import Snapshot, committed
from dataflows.sources.partition import Position
from dataflows.state_files import read_state
from dataflows.watermark import NOT_YET

LOG_STEP = "headwater.log"
SHARDS_STEP = "headwater.shards"


def read_positions(state: Path) -> dict[str, Position]:
    """Where each partition was read to, by its name ``TOPIC/NUMBER``; the folder stays as it is.

    What was never committed does not count, as for the next run: one that was killed stands where
    its last whole epoch ended. A folder that no epoch ended in, or that is not there, has none.

    To be called while no flow runs on the folder (see ``exclusive_state``).

    Raises:
        EngineError: the folder is damaged.
    """
    return positions_in(read_snapshots(state), state)


def read_watermark(state: Path) -> int:
    """How far the watermark has come in a stopped state folder, which stays as it is.

    Microseconds since 1970 UTC; ``NOT_YET`` if no record has come. Partitions that were idle have
    not held it back, so the positions alone do not tell it.

    Raises:
        EngineError: the folder is damaged.
        StateError: a file of a shard is.
    """
    found = [NOT_YET]
    for one in read_snapshots(state):
        if one.step == SHARDS_STEP:
            content: Any = content_of(one, state)
            number, handle = content
            (newest,) = read_state(state / "shards" / f"{number:04d}", handle[-1:])
            found.append(newest["clocks"].watermark_us)
    return max(found)


def read_snapshots(state: Path) -> list[Snapshot]:
    """Everything that the next run resumes from; raise EngineError if it is damaged."""
    folder = state / "recovery"
    try:
        return committed(folder)
    except sqlite3.Error as error:
        raise EngineError(
            f"{folder}: {error}; rebuild everything from the log with `headwater replay`"
        ) from error


def positions_in(snapshots: list[Snapshot], state: Path) -> dict[str, Position]:
    """Of these snapshots the places in the log; ``state`` is for the error's text."""
    found: dict[str, Position] = {}
    for one in snapshots:
        if one.step != LOG_STEP:
            continue
        position = content_of(one, state)
        if not isinstance(position, Position):
            raise _damaged(one, state)
        found[one.key] = position
    return found


def content_of(snapshot: Snapshot, state: Path) -> object:
    """What a snapshot says; raise EngineError if it cannot be read."""
    try:
        content: object = pickle.loads(snapshot.content)
    except Exception as error:
        raise _damaged(snapshot, state) from error
    return content


def _damaged(snapshot: Snapshot, state: Path) -> EngineError:
    return EngineError(
        f"{state / 'recovery'}: {snapshot.step} of {snapshot.key!r} cannot be read; rebuild "
        "everything from the log with `headwater replay`"
    )
