"""The plan file as the scorer follows it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path, PosixPath

import grpc
import pytest

from contracts.plan_file import plan_path
from scorer.applied import AppliedFeatures
from scorer.errors import UnknownFeatureError
from tests.scorer.feature_shop import (
    CARD,
    FeatureShop,
    row,
    shop_server,
)


def test_apply_is_noticed_and_a_broken_plan_is_not_taken(feature_shop: FeatureShop) -> None:
    """What is applied while the server runs is served; a broken file changes nothing."""
    plan_path(feature_shop.folder).unlink()

    async def run() -> None:
        async with shop_server(feature_shop) as server:

            async def names() -> list[str]:
                answer = await server.get(feature_service="new", rows=[row({"card": 42})])
                return list(answer.names)

            with pytest.raises(grpc.aio.AioRpcError, match="run `headwater apply`") as caught:
                await names()
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            feature_shop.apply(services={"new": [("card_1h", "spent")]})
            assert await names() == ["card_1h:spent"]
            plan_path(feature_shop.folder).write_text('{"format": 1')
            assert await names() == ["card_1h:spent"]
            plan_path(feature_shop.folder).unlink()
            assert await names() == ["card_1h:spent"]
            feature_shop.apply(services={"new": [("card_1h", "gift")]})
            assert await names() == ["card_1h:gift"]

    asyncio.run(run())


def test_the_plan_file_is_looked_at_once_in_a_while(feature_shop: FeatureShop) -> None:
    """Between two looks nothing is read; troubles are told in the log once."""
    now = [0.0]
    applied = AppliedFeatures(plan_path(feature_shop.folder), lambda: now[0], look_seconds=1.0)

    async def run() -> None:
        first = await applied.catalogue()
        feature_shop.apply(views=[CARD])
        now[0] = 0.999
        assert await applied.catalogue() is first
        now[0] = 1.0
        second = await applied.catalogue()
        assert second is not first
        assert second.join_keys == {"card"}
        now[0] = 2.0
        assert await applied.catalogue() is second

    asyncio.run(run())


class CountedPath(PosixPath):
    """A path that counts how often someone looks at its file."""

    looks = 0

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """As of any path."""
        CountedPath.looks += 1
        return super().stat(follow_symlinks=follow_symlinks)


def test_callers_of_the_first_moment_wait_for_the_first_look(feature_shop: FeatureShop) -> None:
    """Those who come while the plan is read for the first time get it, and it is read once."""
    applied = AppliedFeatures(CountedPath(plan_path(feature_shop.folder)), lambda: 0.0)

    async def run() -> None:
        found = await asyncio.gather(*(applied.catalogue() for _ in range(5)))
        assert len(set(map(id, found))) == 1
        assert CountedPath.looks == 1

    asyncio.run(run())


def test_nothing_applied_is_looked_for_again_later(tmp_path: Path) -> None:
    """Where nothing is applied each call is told so, and the file is found at the next look."""
    now = [0.0]
    shop = FeatureShop(tmp_path)
    applied = AppliedFeatures(plan_path(tmp_path), lambda: now[0])

    async def run() -> None:
        with pytest.raises(UnknownFeatureError):
            await applied.catalogue()
        shop.apply()
        with pytest.raises(UnknownFeatureError):
            await applied.catalogue()
        now[0] = 1.0
        assert (await applied.catalogue()).has_service("trip")

    asyncio.run(run())


def test_a_plan_of_another_layout_is_refused(feature_shop: FeatureShop) -> None:
    """A plan file of a layout to come is not half understood."""
    path = plan_path(feature_shop.folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    applied = AppliedFeatures(path, lambda: 0.0)
    with pytest.raises(UnknownFeatureError):
        asyncio.run(applied.catalogue())
