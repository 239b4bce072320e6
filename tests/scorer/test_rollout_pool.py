"""The pool of models while channels change: what is served beside the champion, and how soon."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from contracts.manifest import Manifest
from scorer.errors import ModelNotReadyError
from scorer.model import LoadedModel
from scorer.model_pool import ModelPool
from tests.scorer.rollout_shop import add, challenge, shadow, until
from tests.scorer.shop import MODEL, WEIGHTS, Shop, bias_of, linear_onnx, manifest_for


def test_the_first_look_ends_when_all_is_loaded(scorer_shop: Shop) -> None:
    """More models than load at a time, in whatever order they come to an end: none is missing."""
    repository = scorer_shop.repository
    add(scorer_shop, "2")
    challenge(scorer_shop, "2", 0.5)
    names = [MODEL, *(f"more_{number}" for number in range(9))]
    for name in names[1:]:
        data = linear_onnx(WEIGHTS, bias_of("1"))
        repository.publish(replace(manifest_for("1", data), model=name), data)
        repository.set_channel(name, "champion", "1", "test", "test", 0)
    under_way, ended = threading.Semaphore(0), list[str]()

    def load(manifest: Manifest, onnx: bytes) -> LoadedModel:
        if manifest.model == MODEL:
            # The first to begin is the last to end.
            for _ in names[1:]:
                assert under_way.acquire(timeout=30)
        else:
            under_way.release()
        ended.append(manifest.model)
        return LoadedModel(manifest, onnx)

    async def run() -> None:
        # Both versions of the first model wait for all others.
        under_way.release(len(names) - 1)
        pool = ModelPool(repository, 1, lambda *_: None, load)
        await pool.poll()
        assert [pool.channel(name, "champion").manifest.version for name in names] == ["1"] * 10
        assert pool.channel(MODEL, "challenger").manifest.version == "2"
        await pool.close()

    asyncio.run(run())
    assert len(ended) == len(names) + 1


def test_what_cannot_be_read_is_not_called_missing(scorer_shop: Shop) -> None:
    """A caller is told that there is trouble, not that nobody made a champion; and once it ends."""
    file = scorer_shop.repository.root / MODEL / "channels.json"
    good = file.read_bytes()

    async def run() -> None:
        pool = ModelPool(scorer_shop.repository, 1, lambda *_: None)
        file.write_bytes(b"{")
        await pool.poll()
        with pytest.raises(ModelNotReadyError, match=r"cannot score yet: .* cannot be read"):
            pool.channel(MODEL, "champion")
        file.write_bytes(good)
        await pool.poll()
        assert pool.channel(MODEL, "champion").manifest.version == "1"
        with pytest.raises(ModelNotReadyError, match="it has no shadow"):
            pool.channel(MODEL, "shadow")
        await pool.close()

    asyncio.run(run())


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
