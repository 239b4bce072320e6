"""`headwater score --explain` against a running scorer."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest

from cli.main import main
from scorer.server import running
from tests.scorer.shop import MODEL, SCHEMA, VECTOR, WEIGHTS, Shop


def test_score_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--explain adds what each field did, the greatest first; without it nothing is added."""
    shop = Shop(tmp_path)
    shop.create()
    row = ["amount=2.5", "items=3", "gift=true", "card=42", "origin=JFK", "dest=LAX"]
    words = ["score", MODEL, *row, "--repo", str(tmp_path), "--event-time", "2023-11-14T22:13:20Z"]

    def ask(*more: str) -> None:
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        assert ended.value.code == 0

    async def run() -> None:
        async with running(shop.settings(request_log_share=0), tmp_path) as address:
            monkeypatch.setenv("HEADWATER_SCORER_ADDRESS", address)
            capsys.readouterr()
            await asyncio.to_thread(ask)
            assert "explanation" not in json.loads(capsys.readouterr().out)
            await asyncio.to_thread(ask, "--explain")
            told = json.loads(capsys.readouterr().out)["explanation"]
        expected = {
            field.name: weight * (value - field.default)
            for field, weight, value in zip(SCHEMA.fields, WEIGHTS, VECTOR, strict=True)
        }
        found = {name: one["contribution"] for name, one in told["contributions"].items()}
        assert found == pytest.approx(expected, rel=1e-12)
        assert list(found) == sorted(found, key=lambda name: -abs(found[name]))
        total = math.fsum(found.values())
        assert told["baseline_output"] + total == pytest.approx(told["output"], abs=1e-12)
        assert (told["method"], told["link"]) == ("linear", "log_odds")

    asyncio.run(run())
