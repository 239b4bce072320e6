"""The online store's configuration against Feast's own reading of it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig
from hypothesis import given
from hypothesis import strategies as st

from contracts.online_store import (
    OnlineStoreConfigError,
    RedisConfig,
    SqliteConfig,
    parse_online_store,
)

HERE = Path("/repo")
HOST = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
PORT = st.integers(1, 65_535)
TEXT = st.text(st.characters(codec="ascii", exclude_characters=",=", categories=["L", "N", "P"]))
OPTION = st.one_of(
    st.tuples(st.sampled_from(["username", "password", "client_name"]), TEXT),
    st.tuples(st.just("ssl"), st.sampled_from(["true", "false"])),
    st.tuples(st.just("db"), st.integers(0, 15).map(str)),
    st.tuples(st.just("socket_timeout"), st.floats(0.01, 100).map(repr)),
    st.tuples(st.just("health_check_interval"), st.integers(0, 60).map(str)),
)


def parse_redis(**settings: object) -> RedisConfig:
    """The configuration of a Redis store with those settings."""
    config = parse_online_store({"type": "redis", **settings}, HERE)
    assert isinstance(config, RedisConfig)
    return config


@given(HOST, PORT, st.lists(OPTION, max_size=5), st.integers(0, 5))
def test_connection_string_equals_feast(
    host: str, port: int, options: list[tuple[str, str]], place: int
) -> None:
    """Address and options, wherever the address stands, are what Feast gives to redis-py."""
    parts = [f"{name}={value}" for name, value in options]
    parts.insert(min(place, len(parts)), f"{host}:{port}")
    text = ",".join(parts)
    nodes, expected = RedisOnlineStore._parse_connection_string(text)
    try:
        config = parse_redis(connection_string=text)
    except OnlineStoreConfigError:
        # Passwords that look like other JSON than text or a whole number: redis-py cannot use them.
        bad = (float, bool, list, dict)
        assert any(
            isinstance(expected.get(n), bad) for n in ("username", "password", "client_name")
        )
        return
    assert config.addresses == ((nodes[0]["host"], int(nodes[0]["port"])),)
    texts = ("username", "password", "client_name")
    assert config.options == {
        name: str(value) if name in texts else value
        for name, value in expected.items()
        if value is not None
    }


def test_defaults_equal_feasts() -> None:
    """With nothing but a type, or nothing at all, path and address are Feast's defaults."""
    path = SqliteOnlineStoreConfig().path
    for store in (None, {}, "sqlite", {"type": "sqlite"}):
        assert parse_online_store(store, HERE) == SqliteConfig(HERE / path)
    host, port = RedisOnlineStoreConfig().connection_string.split(":")
    assert parse_online_store("redis", HERE) == RedisConfig(((host, int(port)),), False)
    assert parse_online_store({"path": "/data/x.db"}, HERE) == SqliteConfig(Path("/data/x.db"))


def test_every_setting_of_feasts_redis_store_is_known() -> None:
    """Feast has no setting for Redis that is neither read here nor refused by name."""
    known: dict[str, Any] = {
        "type": "redis",
        "redis_type": "redis",
        "client": "glide",
        "connection_string": "h:1",
        "key_ttl_seconds": 60,
        "full_scan_for_deletion": False,
        "skip_dedup": True,
    }
    assert RedisOnlineStoreConfig.model_fields.keys() == known.keys() | {"sentinel_master"}
    assert parse_online_store(known, HERE) == RedisConfig((("h", 1),), False, {}, 60)


def test_cluster_has_several_addresses_and_its_own_options() -> None:
    """Feast's documented cluster string is read, the coverage switch by today's name."""
    text = "one:7000,two:7001,skip_full_coverage_check=true,ssl=true,password=p=q"
    config = parse_redis(redis_type="redis_cluster", connection_string=text)
    assert config.addresses == (("one", 7000), ("two", 7001))
    assert config.is_cluster
    assert config.options == {"ssl": True, "password": "p=q", "require_full_coverage": False}
    assert config.label == "one:7000,two:7001"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"type": "dynamodb"}, "'dynamodb' is not supported: use sqlite or redis"),
        ({"type": "sqlite", "vector_enabled": True}, "vector_enabled is not supported"),
        ({"type": "sqlite", "path": 7}, "path must be a file"),
        ({"redis_type": "redis_sentinel"}, "'redis_sentinel' is not supported: use redis"),
        ({"sentinel_master": "x"}, "sentinel_master is not supported"),
        ({"client": "other"}, "client must be one of redis, glide"),
        ({"connection_string": 6379}, "must be text like host:6379"),
        ({"connection_string": ""}, "part 1 of connection_string is neither host:port"),
        ({"connection_string": "db=1"}, "names no server"),
        ({"connection_string": "h"}, "part 1 of connection_string is neither host:port"),
        ({"connection_string": "h:x"}, "neither host:port nor name=value"),
        ({"connection_string": "h:0"}, "neither host:port nor name=value"),
        ({"connection_string": "redis://h:1"}, "no redis://"),
        ({"connection_string": "h:1,"}, "part 2 of connection_string is neither"),
        ({"connection_string": "a:1,b:2"}, "several servers"),
        ({"connection_string": "h:1,retry_on_timeout=true"}, "Headwater asks again by itself"),
        ({"connection_string": "h:1,colour=red"}, "part 2 of connection_string is no known option"),
        ({"connection_string": "h:1,ssl=True"}, "ssl must be true or false"),
        ({"connection_string": "h:1,db=one"}, "db must be a whole number"),
        ({"connection_string": "h:1,socket_timeout=0"}, "socket_timeout must be a number of sec"),
        ({"connection_string": "h:1,password=1e5"}, "password must be text"),
        ({"connection_string": "h:1,ssl_cert_reqs=no,ssl=true"}, "none, optional or required"),
        ({"connection_string": "h:1,ssl_ca_certs=ca.pem"}, "add ssl=true"),
        ({"connection_string": "h:1,protocol=4"}, "protocol must be 2 or 3"),
        ({"connection_string": "h:1,skip_full_coverage_check=true"}, "redis_type: redis_cluster"),
        ({"connection_string": "h:1,db=1", "redis_type": "redis_cluster"}, "no db but 0"),
        ({"key_ttl_seconds": -1}, "key_ttl_seconds must be"),
        ({"key_ttl_seconds": True}, "key_ttl_seconds must be"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(settings: dict[str, Any], match: str) -> None:
    """No setting is passed over: the message names it and says what to write."""
    with pytest.raises(OnlineStoreConfigError, match=match):
        parse_online_store({"type": "redis", **settings}, HERE)


def test_a_password_is_never_shown() -> None:
    """Neither the configuration's text nor an error about a password holds it."""
    config = parse_redis(connection_string="h:1,password=hush")
    assert "hush" not in repr(config)
    assert "hush" not in config.label
    for text in (
        'h:1,password=["hush"]',
        "redis://:hush@h:1",
        "hush@h:1",
        "user:hush@h:1",
        "h:1,password=abc,hush",
        "h:1,password=abc,hush=",
    ):
        with pytest.raises(OnlineStoreConfigError) as caught:
            parse_redis(connection_string=text)
        assert "hush" not in str(caught.value), text


@pytest.mark.parametrize("is_cluster", [False, True])
def test_redis_py_takes_the_options(is_cluster: bool) -> None:
    """Both clients, with and without asyncio, know every argument that can come out."""
    text = (
        "h:1,username=u,password=7,client_name=c,protocol=3,max_connections=9,socket_timeout=1,"
        "socket_keepalive=true,health_check_interval=3,ssl=true,ssl_ca_certs=a,ssl_certfile=b,"
        "ssl_keyfile=c,ssl_cert_reqs=null,ssl_check_hostname=false,ssl_ca_data=d"
    )
    text += ",require_full_coverage=true" if is_cluster else ",db=2,ssl_password=x"
    kind = "redis_cluster" if is_cluster else "redis"
    options = parse_redis(connection_string=text, redis_type=kind).client_options(0.5)
    assert options["socket_timeout"] == 1
    assert options["socket_connect_timeout"] == 0.5
    assert options["ssl_cert_reqs"] == "none"
    assert options["password"] == "7"
    assert ("host" in options) != is_cluster
    clients = [redis.asyncio.RedisCluster] if is_cluster else [redis.Redis, redis.asyncio.Redis]
    for client in clients:
        assert options.keys() <= inspect.signature(client).parameters.keys()


def test_time_limits_are_those_given() -> None:
    """Without own limits in the connection string the caller's hold, with RESP 2."""
    options = parse_redis(connection_string="h:1,socket_timeout=null").client_options(0.5)
    assert options == {
        "host": "h",
        "port": 1,
        "protocol": 2,
        "socket_timeout": 0.5,
        "socket_connect_timeout": 0.5,
    }


def test_no_expiry_is_zero_or_nothing() -> None:
    """Feast takes 0 for no expiry; a number that came as text out of ${ENV} is a number."""
    assert parse_redis(key_ttl_seconds=0).key_ttl_seconds is None
    assert parse_redis(key_ttl_seconds=None).key_ttl_seconds is None
    assert parse_redis(key_ttl_seconds="90").key_ttl_seconds == 90
