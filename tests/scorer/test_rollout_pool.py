"""The pool of models while channels change: what is served beside the champion, and how soon."""

from __future__ import annotations

import asyncio
import threading

from contracts.manifest import Manifest
from scorer.model import LoadedModel
from scorer.model_pool import ModelPool
from tests.scorer.rollout_shop import add, challenge, shadow, until
from tests.scorer.shop import MODEL, Shop


def test_a_slow_load_holds_up_no_rollback(scorer_shop: Shop) -> None:
    """While a challenger takes its time to load, another channel's change is served."""
    repository = scorer_shop.repository
    may_load = threading.Event()
    add(scorer_shop, "2")
    add(scorer_shop, "3")

    def load(manifest: Manifest, onnx: bytes) -> LoadedModel:
        if manifest.version == "3":
            assert may_load.wait(30)
        return LoadedModel(manifest, onnx)

    async def run() -> None:
        pool = ModelPool(repository, 1, lambda *_: None, load)
        await pool.poll()
        watching = asyncio.create_task(pool.watch(0.01))
        challenge(scorer_shop, "3", 1.0)
        await until(lambda: pool.rollout(MODEL) is not None)
        rollout = pool.rollout(MODEL)
        assert rollout is not None
        assert (rollout.challenger, rollout.share) == (None, 1.0)
        repository.promote(MODEL, "2", "test", "test", 0)
        await until(lambda: pool.channel(MODEL, "champion").manifest.version == "2")
        may_load.set()

        def is_there() -> bool:
            rollout = pool.rollout(MODEL)
            return rollout is not None and rollout.challenger is not None

        await until(is_there)
        watching.cancel()
        await pool.close()

    asyncio.run(run())


def test_what_is_beside_is_the_very_version(scorer_shop: Shop) -> None:
    """A challenger that cannot be loaded is not stood in for by the one before it."""
    for version in ("2", "3"):
        add(scorer_shop, version)
    file = scorer_shop.repository.root / MODEL / "3" / "model.onnx"
    file.write_bytes(b"nothing")

    async def run() -> None:
        pool = ModelPool(scorer_shop.repository, 1, lambda *_: None)
        challenge(scorer_shop, "2", 0.5)
        await pool.poll()
        first = pool.rollout(MODEL)
        assert first is not None
        assert first.challenger is not None
        challenge(scorer_shop, "3", 0.5)
        await pool.poll()
        second = pool.rollout(MODEL)
        assert second is not None
        assert (second.challenger, second.share) == (None, 0.5)
        scorer_shop.repository.set_channel(MODEL, "challenger", None, "test", "test", 0)
        await pool.poll()
        assert pool.rollout(MODEL) is None

    asyncio.run(run())


def test_a_rollback_needs_no_load(scorer_shop: Shop) -> None:
    """The champion before the present one is still there."""
    add(scorer_shop, "2")
    loads: list[str] = []

    def load(manifest: Manifest, onnx: bytes) -> LoadedModel:
        loads.append(manifest.version)
        return LoadedModel(manifest, onnx)

    async def run() -> None:
        pool = ModelPool(scorer_shop.repository, 1, lambda *_: None, load)
        await pool.poll()
        first = pool.channel(MODEL, "champion")
        scorer_shop.repository.promote(MODEL, "2", "test", "test", 0)
        await pool.poll()
        scorer_shop.repository.rollback(MODEL, "test", "test", 0)
        await pool.poll()
        assert pool.channel(MODEL, "champion") is first

    asyncio.run(run())
    assert loads == ["1", "2"]


def test_what_is_not_wanted_any_more_is_not_served(scorer_shop: Shop) -> None:
    """A version that was taken away while it was loading never serves."""
    may_load = threading.Event()
    add(scorer_shop, "2")

    def load(manifest: Manifest, onnx: bytes) -> LoadedModel:
        if manifest.version == "2":
            assert may_load.wait(30)
        return LoadedModel(manifest, onnx)

    async def run() -> None:
        pool = ModelPool(scorer_shop.repository, 1, lambda *_: None, load)
        await pool.poll()
        watching = asyncio.create_task(pool.watch(0.01))
        scorer_shop.repository.promote(MODEL, "2", "test", "test", 0)
        await until(lambda: bool(pool._loading))
        scorer_shop.repository.rollback(MODEL, "test", "test", 0)
        await until(lambda: pool._wanted[MODEL, "champion"][0] == "1")
        may_load.set()
        await until(lambda: not pool._loading)
        assert pool.channel(MODEL, "champion").manifest.version == "1"
        watching.cancel()
        await pool.close()

    asyncio.run(run())


def test_no_version_scores_a_row_twice(scorer_shop: Shop) -> None:
    """A version in two channels scores once, and a challenger without a share not at all."""
    for version in ("2", "3"):
        add(scorer_shop, version)

    async def run() -> None:
        pool = ModelPool(scorer_shop.repository, 1, lambda *_: None)
        found: list[list[str]] = []
        for challenger, share, beside in (("2", 0.5, "1"), ("2", 0.0, "3"), ("2", 0.1, "2")):
            challenge(scorer_shop, challenger, share)
            shadow(scorer_shop, beside)
            await pool.poll()
            rollout = pool.rollout(MODEL)
            assert rollout is not None
            found.append([channel for channel, _ in rollout.versions])
        assert found == [
            ["champion", "challenger"],
            ["champion", "shadow"],
            ["champion", "challenger"],
        ]

    asyncio.run(run())
