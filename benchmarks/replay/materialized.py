"""The latest row of each card by ``feast materialize`` and by ``headwater replay --online``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from benchmarks._payments import VIEW
from benchmarks.replay.figures import Figures, job
from benchmarks.replay.worlds import (
    PROJECT,
    STORE,
    Events,
    make_events,
    make_latest,
    online_path,
    rows_in,
)
from contracts.feast_bytes import decode_value, entity_key
from contracts.feast_redis import redis_field, redis_key
from tests.services.outside import OutsideRedis
from tests.services.redis import KEEP_NOTHING, RedisServer

_SQLITE = "{type: sqlite, path: data/online.db}"
_CARDS_AT_ONCE = 10_000


def in_sqlite(folder: Path, count: int, cards: int) -> Figures:
    """Both into SQLite files, and all values compared."""
    events = make_events(count, cards)
    ours, theirs = make_latest(folder / "ours", events), make_latest(folder / "theirs", events)
    job("run", ours)
    online_path(ours).unlink()
    done = job("replay_online", ours), job("materialize", theirs)
    mine = rows_in(ours)
    # Feast keeps the join key of a stream feature view as if it were a feature, too.
    feasts = {
        (key, name): value for (key, name), value in rows_in(theirs).items() if name != "card"
    }
    assert mine == feasts, "values differ"
    found = {int(card.rpartition("-")[2]): mine[(key, "amount")] for card, key in _keys(cards)
             if (key, "amount") in mine}  # fmt: skip
    assert len(found) == len(mine)
    return _figures(events, cards, found, *done)


def in_redis(folder: Path, count: int, cards: int) -> Figures:
    """Both into one Redis, whose own work counts for neither, and all values compared."""
    events = make_events(count, cards)
    with _redis(folder / "redis") as address:
        made = []
        for project in ("ours", "theirs"):
            store = STORE.replace(PROJECT, f"{PROJECT}_{project}_{os.getpid()}")
            online = f'{{type: redis, connection_string: "{address}"}}'
            made.append(make_latest(folder / project, events, store.replace(_SQLITE, online)))
        ours, theirs = made
        job("run", ours)
        _remove(address, ours, cards)
        done = job("replay_online", ours), job("materialize", theirs)
        mine, feasts = (_rows(address, one, cards) for one in made)
        assert mine == feasts, "values differ"
        for one in made:
            _remove(address, one, cards)
    return _figures(events, cards, mine, *done)


def _figures(
    events: Events, cards: int, found: dict[int, Any], replayed: Figures, materialized: Figures
) -> Figures:
    amounts = events.amounts.astype(float).tolist()
    wanted = dict(zip(events.of_card.tolist(), amounts, strict=True))
    assert found == wanted, "values are not those that the events end with"
    count = len(amounts)
    return {
        "events": count,
        "cards": cards,
        "values_checked": len(found),
        "replay": replayed,
        "materialize": {
            **materialized,
            "events_per_cpu_second": count / materialized["cpu_seconds"],
        },
        "times_materialize": materialized["cpu_seconds"] / replayed["cpu_seconds"],
    }


def _keys(cards: int) -> Iterator[tuple[str, bytes]]:
    for card in range(cards):
        name = f"card-{card}"
        yield name, entity_key(("card",), ("string",), (name,))


def _redis_keys(folder: Path, cards: int) -> list[bytes]:
    project = (folder / "feature_store.yaml").read_text().split()[1]
    return [redis_key(project, key) for _, key in _keys(cards)]


def _remove(address: str, folder: Path, cards: int) -> None:
    with redis.Redis.from_url(f"redis://{address}") as store:
        keys = _redis_keys(folder, cards)
        for first in range(0, cards, _CARDS_AT_ONCE):
            store.unlink(*keys[first : first + _CARDS_AT_ONCE])


def _rows(address: str, folder: Path, cards: int) -> dict[int, Any]:
    """Card -> its amount, of those that have one."""
    field, found = redis_field(VIEW, "amount"), {}
    with redis.Redis.from_url(f"redis://{address}") as store:
        keys = _redis_keys(folder, cards)
        for first in range(0, cards, _CARDS_AT_ONCE):
            with store.pipeline(transaction=False) as pipe:
                for key in keys[first : first + _CARDS_AT_ONCE]:
                    pipe.hget(key, field)
                values = pipe.execute()
            for card, value in enumerate(values, first):
                if value is not None:
                    found[card] = decode_value(value)
    return found


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """The address of the environment's, or of a new one as long as the context."""
    outside = OutsideRedis.named_in(os.environ)
    if outside is not None:
        yield outside.address
        return
    server = RedisServer(folder, *KEEP_NOTHING)
    try:
        server.start()
        yield server.address
    finally:
        server.kill()
