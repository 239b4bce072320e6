"""The shop of the flow's tests, loaded once, and its log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dataflows.definitions.repository import Repository, load_repository
from tests.erasure.world import World, moved
from tests.flow import shop

NewWorld = Callable[..., World]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The shop's definitions, compiled."""
    return load_repository(shop.make_repository(tmp_path_factory.mktemp("repository")))


@pytest.fixture(scope="session")
def records() -> list[shop.Record]:
    """A log over midnight, with bad and late records, in the order of writing."""
    return shop.make_records(seed=11, orders=580)


@pytest.fixture
def new_world(tmp_path: Path, repository: Repository) -> NewWorld:
    """Makes a world: ``new_world(name)``."""

    def make(name: str = "world") -> World:
        out = tmp_path / name
        out.mkdir()
        return World(out, moved(repository, out))

    return make
