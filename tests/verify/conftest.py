"""The shop's repository, records and oracle, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dataflows.definitions.repository import Repository, load_repository
from tests.flow import shop
from tests.verify.world import Oracle, World

NewWorld = Callable[[], World]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The shop's definitions, compiled."""
    return load_repository(shop.make_repository(tmp_path_factory.mktemp("repository")))


@pytest.fixture(scope="session")
def records() -> list[shop.Record]:
    """Some six hundred records over one hour, bad and late ones among them."""
    return shop.make_records(seed=11, orders=200)


@pytest.fixture(scope="session")
def oracle(repository: Repository, records: list[shop.Record]) -> Oracle:
    """What should be served."""
    return Oracle(repository.plan, records)


@pytest.fixture
def world(repository: Repository, records: list[shop.Record], tmp_path: Path) -> World:
    """A log of those records, of which nothing was served yet."""
    log = shop.write_log(tmp_path / "log", records)
    return World(repository, log, shop.settings(repository.directory, log, tmp_path / "out"))
