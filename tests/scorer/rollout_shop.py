"""The shop with a challenger or a shadow beside its champion, and what its prediction log says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from contracts.feature_schema import FeatureSchema
from contracts.prediction_record import PredictionRecord
from scorer.client import AsyncScorerClient, ScoreOptions
from tests.scorer.shop import (
    MODEL,
    NOON_US,
    SCHEMA,
    WEIGHTS,
    Shop,
    bias_of,
    linear_onnx,
    manifest_for,
)

AT_NOON = ScoreOptions(event_time_us=NOON_US)
SECONDS_MAX = 30.0


def add(shop: Shop, version: str, schema: FeatureSchema = SCHEMA, **change: object) -> None:
    """Publish a version that is in no channel; its bias tells it from others."""
    data = linear_onnx(WEIGHTS[: len(schema.fields)], bias_of(version))
    manifest = replace(manifest_for(version, data, schema), **change)  # type: ignore[arg-type]
    shop.repository.publish(manifest, data)


def assign_by(shop: Shop, name: str) -> None:
    """A champion, version 2, whose rows go by that input."""
    add(shop, "2", assign_by=name)
    shop.repository.promote(MODEL, "2", "test", "test", 0)


def challenge(shop: Shop, version: str, share: float, salt: str = "salt") -> None:
    """Make a version the challenger with that share."""
    shop.repository.set_challenger(MODEL, version, share, salt, "test", "test", 0)


def shadow(shop: Shop, version: str | None) -> None:
    """Make a version the shadow, or have none."""
    shop.repository.set_channel(MODEL, "shadow", version, "test", "test", 0)


async def until_routed(client: AsyncScorerClient, version: str, share: float) -> None:
    """Wait until the scorer has that challenger with that share."""
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            routes = (await client.routes())[MODEL]
            served = routes.channels.get("challenger") == version
            if served and routes.weights.get("challenger") == share:
                return
            await asyncio.sleep(0.005)


def records(shop: Shop) -> list[PredictionRecord]:
    """All whole records of the prediction log."""
    file: Path = shop.folder / "data" / "log" / "predictions" / "0.ndjson"
    decode = msgspec.json.Decoder(PredictionRecord).decode
    if not file.exists():
        return []
    whole, _, _ = file.read_bytes().rpartition(b"\n")
    return [decode(line) for line in whole.splitlines()]


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition while the scorer on this loop goes on."""
    async with asyncio.timeout(SECONDS_MAX):
        while not true():  # noqa: ASYNC110 - what it waits for is no event of ours
            await asyncio.sleep(0.01)
