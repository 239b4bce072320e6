"""What all tests share: hypothesis profiles, a clean environment, the rule on missing services."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import prometheus_client
import pytest
from hypothesis import settings

from contracts.settings import PREFIX, PROCESSES

# Imported before any test imports Feast, which sets a variable that makes Prometheus add up what
# all registries of a process count.
_PROMETHEUS_FIRST = prometheus_client

# Numba compiles during the first example, so single examples have no deadline: pytest-timeout
# watches the whole test. CI repeats the same examples so that a red run can be run again.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees only the settings that it makes itself."""
    for process in PROCESSES:
        for name in process.model_fields:
            monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)


@pytest.fixture
def without_service() -> Callable[[str], NoReturn]:
    """To be called with what is missing: skips, or fails with HEADWATER_REQUIRE_SERVICES=1."""

    def give_up(what: str) -> NoReturn:
        if os.environ.get("HEADWATER_REQUIRE_SERVICES") == "1":
            pytest.fail(f"{what} is missing, and HEADWATER_REQUIRE_SERVICES=1", pytrace=False)
        pytest.skip(f"{what} is missing on this machine")

    return give_up
