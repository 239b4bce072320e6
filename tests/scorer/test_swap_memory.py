"""Versions that no longer serve leave the memory."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import weakref
from pathlib import Path

import numpy as np
import structlog

from contracts.model_repository import ModelRepository
from scorer.model import LoadedModel
from scorer.model_pool import ModelPool
from tests.scorer.shop import MODEL, SCHEMA, Shop, linear_onnx, manifest_for

SWAPS, WARM = 1_000, 200
# One session of such a model takes more than 100 KiB: 800 that stay would be seen ten times over.
GROWTH_MAX = 8 * 1024 * 1024


def resident_bytes() -> int:
    """What this process holds in memory, without what the allocator only keeps for later."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def test_memory_is_flat_over_a_thousand_swaps(scorer_shop: Shop) -> None:
    """A thousand swaps end in as much memory as two hundred; two sessions live, for a rollback."""
    repository = ModelRepository(scorer_shop.folder / "models")
    channels = repository.root / MODEL / "channels.json"
    # Written as the repository writes them, once; that it waits for the disk is not for this test.
    written: dict[str, bytes] = {}
    for version in ("1", "2"):
        data = linear_onnx((0.1 * int(version),) * len(SCHEMA.fields), 0.0)
        repository.publish(manifest_for(version, data), data)
        repository.set_channel(MODEL, "champion", version, "test", "test", 0)
        written[version] = channels.read_bytes()
    swaps: list[str] = []
    pool = ModelPool(repository, 8, lambda _model, outcome, _seconds: swaps.append(outcome))
    alive: weakref.WeakSet[LoadedModel] = weakref.WeakSet()
    sizes = []
    vector = np.array([SCHEMA.defaults])

    async def run() -> None:
        for swap in range(1, SWAPS + 1):
            version = str(swap % 2 + 1)
            new = channels.with_suffix(".new")
            new.write_bytes(written[version])
            new.replace(channels)
            await pool.poll()
            loaded = pool.channel(MODEL, "champion")
            assert loaded.manifest.version == version
            loaded.run(vector)
            alive.add(loaded)
            if swap in (WARM, SWAPS):
                sizes.append(resident_bytes())

    with structlog.testing.capture_logs():
        asyncio.run(run())
    assert swaps == ["swapped"] * SWAPS
    gc.collect()
    assert len(alive) == 2
    warm, end = sizes
    assert end - warm < GROWTH_MAX
