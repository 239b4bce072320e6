"""A shop with a data set, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.datasets.world import World, make_world
from tests.flow import shop

ORDERS = 800
KNOWN = 700


@pytest.fixture(scope="session")
def records() -> list[shop.Record]:
    """Records of some hours around a midnight, in the order of writing."""
    return shop.make_records(seed=11, orders=ORDERS)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, records: list[shop.Record]) -> World:
    """A world whose log holds all but the last records, and a data set ``first`` of it."""
    at_us = shop.BEGIN_US + KNOWN * 14 * shop.SECOND_US
    known = [record for record in records if record.at_us < at_us]
    world = make_world(tmp_path_factory.mktemp("built"), known)
    world.build("first")
    return world


@pytest.fixture
def world(built: World, tmp_path: Path) -> World:
    """A copy of it."""
    shutil.copytree(built.folder.parent, tmp_path / "root")
    return World(tmp_path / "root" / built.folder.name)
