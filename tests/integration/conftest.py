"""Shops on real services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.flow import shop
from tests.integration.commands import Commands
from tests.integration.real_shop import RealShop, make_real_shop
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka, OutsideRedis
from tests.services.redis import RedisServer

NewShop = Callable[..., RealShop]


@pytest.fixture(scope="session")
def records() -> list[shop.Record]:
    """Some three thousand records over four hours, in the order of writing; 24 are bad."""
    return shop.make_records(seed=7, orders=800)


@pytest.fixture
def new_shop(
    tmp_path: Path,
    kafka_broker: KafkaBroker | OutsideKafka,
    redis_server: RedisServer | OutsideRedis,
    commands: Commands,
) -> NewShop:
    """Makes a shop: ``new_shop(kafka=None, redis=None, **settings)``, on servers of its own."""

    def make(
        kafka: KafkaBroker | None = None, redis: RedisServer | None = None, **given: Any
    ) -> RealShop:
        number = len(list(tmp_path.glob("shop*")))
        made = make_real_shop(
            tmp_path / f"shop{number}",
            (kafka or kafka_broker).bootstrap_servers,
            (redis or redis_server).address,
            **given,
        )
        return replace(made, commands=commands)

    return make
