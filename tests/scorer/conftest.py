"""The shop in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scorer.shop import Shop


@pytest.fixture
def scorer_shop(tmp_path: Path) -> Shop:
    """A shop with a store, and version 1 as champion."""
    shop = Shop(tmp_path)
    shop.create()
    return shop
