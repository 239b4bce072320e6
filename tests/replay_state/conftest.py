"""Definitions that are compiled once for all tests of state folders."""

from __future__ import annotations

from functools import cache

import pytest

from dataflows.definitions.repository import Repository, load_repository
from tests.flow import shop
from tests.replay_state.generations import Load


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Compiles definitions, each once."""

    @cache
    def loaded(definitions: str) -> Repository:
        folder = tmp_path_factory.mktemp("repository")
        return load_repository(shop.make_repository(folder, definitions))

    return loaded
