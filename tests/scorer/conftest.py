"""The shop in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scorer.feature_shop import CARD, FeatureShop
from tests.scorer.secured import mutual_settings, tls_settings, token_settings
from tests.scorer.shop import NOON_US, Shop


@pytest.fixture
def scorer_shop(tmp_path: Path) -> Shop:
    """A shop with a store, and version 1 as champion."""
    shop = Shop(tmp_path)
    shop.create()
    return shop


@pytest.fixture
def tls(scorer_shop: Shop) -> dict[str, str]:
    """Settings of the shop's scorer for TLS."""
    return tls_settings(scorer_shop.folder)


@pytest.fixture
def mutual(scorer_shop: Shop) -> dict[str, str]:
    """Settings of the shop's scorer for TLS in both directions."""
    return mutual_settings(scorer_shop.folder)


@pytest.fixture
def tokens(scorer_shop: Shop) -> dict[str, str]:
    """Settings of the shop's scorer for tokens."""
    return token_settings(scorer_shop.folder)


@pytest.fixture
def feature_shop(tmp_path: Path) -> FeatureShop:
    """A shop whose features are applied, with one card and one route."""
    shop = FeatureShop(tmp_path)
    shop.create()
    shop.apply()
    shop.put(CARD, [42], {"town": "Zürich", "gift": True}, NOON_US)
    return shop
