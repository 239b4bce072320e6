"""Online stores with Feast on them: SQLite and Redis."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.stores import Store

SECOND_US = 1_000_000


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Feast's SQLite store takes UTC for local time; only where both are one is it right."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Makes projects of their own in one online store."""
    made: list[Store] = []
    online = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    resolution_us = SECOND_US
    if request.param == "redis":
        address = request.getfixturevalue("redis_server").address
        online = {"type": "redis", "connection_string": address}
        resolution_us = 1

    def make() -> Store:
        project = f"test_{uuid.uuid4().hex}"
        made.append(Store.applied(project, online, resolution_us, tmp_path))
        return made[-1]

    yield make
    for store in made:
        store.feast.teardown()


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    """One project."""
    return new_store()
