"""Records, and what they come to, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflows.definitions.repository import Repository
from tests.flow import shop
from tests.replay.world import VISIT_SUMS, World, made_in_one_go


@pytest.fixture(scope="session")
def records() -> list[shop.Record]:
    """Some three thousand records over three hours and a midnight, in the order of writing."""
    return shop.make_records(seed=11, orders=800)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, records: list[shop.Record]) -> World:
    """What the records come to in one go; for looking at only."""
    return made_in_one_go(tmp_path_factory.mktemp("whole") / "repository", records)


@pytest.fixture(scope="session")
def whole_with_more(tmp_path_factory: pytest.TempPathFactory, records: list[shop.Record]) -> World:
    """The same with one view more."""
    folder: Path = tmp_path_factory.mktemp("more") / "repository"
    return made_in_one_go(folder, records, shop.DEFINITIONS + VISIT_SUMS)


@pytest.fixture(scope="session")
def repository(whole: World) -> Repository:
    """The shop's definitions, compiled."""
    return whole.repository
