"""A run on a SQLite store: whether it is the one that its state folder knows."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from contracts.online_store import SqliteConfig
from dataflows.definitions.repository import Repository
from dataflows.flow.errors import EngineError
from dataflows.flow.identity import generation
from dataflows.stores.store_mark import filling_mark, read_mark, write_mark
from tests.flow import shop
from tests.flow.conftest import Run


def test_a_store_bears_the_mark_of_its_state(
    copied_run: tuple[Path, Path], run: Run, repository: Repository
) -> None:
    """A run leaves its mark; a file of before there were marks is taken over as it is."""
    log, out = copied_run
    online, project = shop.places(out).online, repository.store.project
    assert isinstance(online, SqliteConfig)
    mine = generation(shop.places(out).state)
    assert read_mark(online, project) == mine
    with closing(sqlite3.connect(online.path)) as store, store:
        store.execute('DROP TABLE "headwater.generation"')
    assert not run(log, out).was_stopped
    assert read_mark(online, project) == mine


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("another", "filled from another state folder, but the state in"),
        (filling_mark("another"), "half way through a replay that did not end, but the state in"),
    ],
    # The mark of a refill is another one in each process.
    ids=["another", "filling"],
)
def test_a_store_of_another_is_refused(
    copied_run: tuple[Path, Path], run: Run, repository: Repository, mark: str, message: str
) -> None:
    """Who knows what the store held before does not write to what another one has filled."""
    log, out = copied_run
    places = shop.places(out)
    write_mark(places.online, repository.store.project, mark)
    with pytest.raises(EngineError, match=message) as caught:
        run(log, out)
    assert "headwater replay" in str(caught.value)
    shutil.rmtree(places.state)
    with pytest.raises(EngineError, match="set HEADWATER_STATE_DIR to that one, or rebuild"):
        run(log, out)
    assert read_mark(places.online, repository.store.project) == mark
