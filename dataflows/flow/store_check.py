"""Whether the online store is the one that the state knows, and how a replay makes it so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from contracts.online_store import SqliteConfig
from dataflows.definitions.repository import Repository
from dataflows.flow.errors import EngineError
from dataflows.flow.identity import generation
from dataflows.flow.run_context import Places


def check_store(places: Places, project: str) -> None:
    """Raise EngineError if the store was wiped or replaced since the state was made.

    A SQLite file that is gone is seen as such. Redis keeps a mark of the generation: one that is
    not there, or is another's, means that values are missing which the state will not write again.

    Raises:
        EngineError: with what to do.
        OnlineStoreError: the store does not answer.
    """
    has_state = (places.state / "shards").exists()
    if isinstance(places.online, SqliteConfig):
        if has_state and not places.online.path.exists():
            raise EngineError(
                f"the online store {places.online.path} is gone, but the state says what it held; "
                "rebuild it with `headwater replay`"
            )
        return
    from dataflows.stores.redis_mark import read_mark, write_mark

    mine = generation(places.state)
    if not has_state:
        write_mark(places.online, project, mine)
        return
    found = read_mark(places.online, project)
    if found != mine:
        raise EngineError(
            f"the online store at {places.online.label} {_what_is_there(found)}, but the state "
            f"in {places.state} says what it held; rebuild it with `headwater replay`"
        )


def _what_is_there(mark: str | None) -> str:
    return "was wiped" if mark is None else "was filled from another state folder"


def online_filler(repository: Repository, live: Places) -> Callable[[Path], None]:
    """A function that makes a live server hold what a replay has gathered in a SQLite file.

    It is to be called when the replay's state folder has taken its place.
    """

    def fill(gathered: Path) -> None:
        assert not isinstance(live.online, SqliteConfig), "files are swapped, not filled"
        from dataflows.stores.redis_copy import copy_to_redis
        from dataflows.stores.redis_mark import write_mark

        project = repository.store.project
        copy_to_redis(gathered, project, repository.plan.views, live.online)
        write_mark(live.online, project, generation(live.state))

    return fill
