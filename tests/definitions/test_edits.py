"""Definitions that were edited are read anew."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dataflows.definitions.repository import load_repository
from tests.flow import shop


def test_an_edit_within_the_second_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text of the same length and time, for which Python would take the bytecode it wrote."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = 'over("max", 10, 10, "max_10m")'
    assert before in shop.DEFINITIONS
    first = load_repository(shop.make_repository(tmp_path))
    path = tmp_path / "definitions.py"
    at = path.stat()
    path.write_text(shop.DEFINITIONS.replace(before, before.replace("max", "min", 1)))
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    second = load_repository(tmp_path)
    found = [
        next(
            one.function
            for one in loaded.plan.view("user_orders").aggregates
            if "max_" in one.feature
        )
        for loaded in (first, second)
    ]
    assert found == ["max", "min"]
