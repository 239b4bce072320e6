"""Names of views, features and entities with spaces, quotes and letters of all kinds."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import redis

from contracts.online_store import RedisConfig, SqliteConfig
from tests.flow import shop
from tests.integration.commands import Commands
from tests.replay.world import World, make_world
from tests.services.outside import OutsideRedis
from tests.services.redis import RedisServer

VIEW = """Käse "und" 'Brot' %s; DROP TABLE x--"""
DEFINITIONS = (
    shop.DEFINITIONS.replace('"user_orders", [user]', f"{VIEW!r}, [user]")
    .replace('"spent_20m"', """'spent "20" `m` – ñ:'""")
    .replace('Entity(name="user"', """Entity(name='us"er ü'""")
)
RECORDS = 60


def test_in_sqlite(tmp_path: Path, commands: Commands) -> None:
    """A replay of the view, of its values alone and of all there is makes what there was."""
    _is_replayed(_made(tmp_path / "repository"), commands)


@pytest.mark.services
def test_in_redis(
    tmp_path: Path, commands: Commands, redis_server: RedisServer | OutsideRedis
) -> None:
    """The same in Redis."""
    world = _made(tmp_path / "repository", redis_server.address)
    _is_replayed(world, commands)


def _made(folder: Path, address: str = "") -> World:
    world = make_world(folder, DEFINITIONS)
    # Feast calls what it puts into a store by the project's name too.
    store = shop.STORE.replace("project: shop", "project: odd_names")
    if address:
        sqlite = "{type: sqlite, path: data/online.db}"
        store = store.replace(sqlite, f'{{type: redis, connection_string: "{address}"}}')
    (folder / "feature_store.yaml").write_text(store)
    world.write(shop.make_records(seed=3, orders=RECORDS))
    return world


def _is_replayed(world: World, commands: Commands) -> None:
    # Redis may have what a test before has left.
    world.replay()
    before = world.digest()
    assert all(vars(before).values())
    part = world.start(commands, "replay", "--views", VIEW)
    assert part.wait() == 0, part.output
    assert world.digest() == before
    _wipe(world)
    assert world.digest().online != before.online
    world.replay(results=("online",))
    assert world.digest() == before
    world.replay()
    assert world.digest() == before


def _wipe(world: World) -> None:
    online = world.places.online
    if isinstance(online, SqliteConfig):
        online.path.unlink()
        return
    assert isinstance(online, RedisConfig)
    (host, port), *_ = online.addresses
    with closing(redis.Redis(host=host, port=port)) as client:
        # The project stands at the end of Feast's keys.
        for key in client.scan_iter(match="*odd_names*"):
            client.delete(key)
