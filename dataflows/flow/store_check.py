"""Whether the online store is the one that the state knows, and how a replay makes it so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from contracts.online_store import RedisConfig, SqliteConfig
from dataflows.flow.errors import EngineError
from dataflows.flow.identity import generation
from dataflows.flow.patience import patiently
from dataflows.flow.run_context import RunContext
from dataflows.stores.store_mark import claim_mark, is_filling, read_mark, where_is

_WHO = "online store"


def check_store(context: RunContext, project: str, tell: Callable[[], None]) -> None:
    """Raise EngineError if the store was wiped or replaced since the state was made.

    A store keeps a mark of the generation: one that is not there, or is another's, means that
    values are missing which the state will not write again. A state that is new leaves its mark,
    unless there is one of another. A SQLite file that is gone is seen as such; one without a mark
    was filled before files had marks, and is taken over by the state that knows it. A Redis that is
    gone is waited for, and ``tell`` is called to say so.

    Raises:
        EngineError: with what to do.
        OnlineStoreError: the store does not answer, or cannot be written.
    """
    places = context.places
    online, mine = places.online, generation(places.state)
    has_state = (places.state / "shards").exists()
    if isinstance(online, SqliteConfig) and not online.path.exists():
        if has_state:
            raise EngineError(
                f"the online store {online.path} is gone, but the state says what it held; "
                "rebuild it with `headwater replay`"
            )
        _make_file(online.path)
    if not has_state or isinstance(online, SqliteConfig):
        found = patiently(lambda: claim_mark(online, project, mine), context, _WHO, tell)
        if found != mine and not has_state:
            raise EngineError(
                f"{_named(online)} was filled from another state folder than "
                f"{places.state}: set HEADWATER_STATE_DIR to that one, or rebuild with "
                "`headwater replay`"
            )
        known: str | None = found
    else:
        known = patiently(lambda: read_mark(online, project), context, _WHO, tell)
    if known == mine:
        return
    what = "was wiped" if known is None else "was filled from another state folder"
    if known is not None and is_filling(known):
        what = "is half way through a replay that did not end"
    where = online.path if isinstance(online, SqliteConfig) else f"at {online.label}"
    raise EngineError(
        f"the online store {where} {what}, but the state in {places.state} says what "
        "it held; rebuild it with `headwater replay`"
    )


def _make_file(path: Path) -> None:
    # Some worker may write state before another one opens the store. Who is killed in between must
    # not leave what looks like a store that was lost.
    with suppress(OSError):  # whoever opens the store says what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _named(online: SqliteConfig | RedisConfig) -> str:
    name = where_is(online)
    return name[0].upper() + name[1:]
