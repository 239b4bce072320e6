"""The switch HEADWATER_REQUIRE_SERVICES: whether a missing service skips a test or fails it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest


def test_a_missing_service_skips(
    without_service: Callable[[str], NoReturn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a developer's machine the test is skipped and says what is missing."""
    monkeypatch.delenv("HEADWATER_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Kafka is missing on this machine"):
        without_service("Kafka")


def test_a_missing_service_fails_where_services_are_required(
    without_service: Callable[[str], NoReturn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In CI nothing is skipped silently."""
    monkeypatch.setenv("HEADWATER_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="HEADWATER_REQUIRE_SERVICES=1"):
        without_service("Kafka")
