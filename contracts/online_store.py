"""The online store as ``feature_store.yaml`` configures it, read as Feast reads it.

Everything that Feast knows is either honoured or refused by name. Three settings of Feast's Redis
store are accepted and change nothing here, for they say how Feast's own processes work:
``client`` (how they read), ``full_scan_for_deletion`` and ``skip_dedup`` (how they write).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class OnlineStoreConfigError(ValueError):
    """The ``online_store`` part of feature_store.yaml cannot be used; the text says why."""


@dataclass(frozen=True)
class SqliteConfig:
    """A SQLite file (absolute path)."""

    path: Path


@dataclass(frozen=True)
class RedisConfig:
    """A Redis server or cluster.

    Attributes:
        addresses: (host, port) of the server, or of some nodes of the cluster.
        is_cluster: Feast's ``redis_type: redis_cluster``.
        options: what stands behind the addresses in Feast's connection string (``ssl``,
            ``password``, ``db``, ``username``, ``ssl_ca_certs`` ...), as redis-py takes it.
        key_ttl_seconds: Feast's setting: keys expire so long after their last write; None never.
    """

    addresses: tuple[tuple[str, int], ...]
    is_cluster: bool
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    key_ttl_seconds: int | None = None

    @property
    def label(self) -> str:
        """The addresses for people: ``host:port,host:port``."""
        return ",".join(f"{host}:{port}" for host, port in self.addresses)

    def client_options(self, timeout_seconds: float) -> dict[str, Any]:
        """Keyword arguments for redis-py's clients, asyncio's too, and for its connections.

        ``host`` and ``port`` are in them only without a cluster; for a cluster the caller makes
        the start nodes of ``addresses``. RESP 2 unless the connection string asks for another, so
        that servers before 6 can be spoken to.

        Args:
            timeout_seconds: how long to wait for a connection or an answer where the connection
                string sets no time of its own.
        """
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            **self.options,
        }
        if not self.is_cluster:
            options["host"], options["port"] = self.addresses[0]
        return options


def parse_online_store(
    store: Mapping[str, Any] | str | None, directory: Path
) -> SqliteConfig | RedisConfig:
    """The store that the ``online_store`` part names; without one SQLite at ``data/online.db``.

    Args:
        store: the part as YAML gives it, environment variables put in.
        directory: the folder of feature_store.yaml, from which a relative path counts.

    Raises:
        OnlineStoreConfigError: the type is not supported, or an address or option is malformed.
    """
    settings: dict[str, Any] = {"type": store} if isinstance(store, str) else dict(store or {})
    kind = settings.pop("type", "sqlite")
    if kind in _SQLITE_TYPES:
        path = settings.pop("path", "data/online.db")
        if not isinstance(path, str) or not path:
            raise OnlineStoreConfigError(f"online_store: path must be a file, not {path!r}")
        _refuse_rest(settings, "sqlite")
        return SqliteConfig((directory / path).absolute())
    if kind == "redis":
        return _redis(settings)
    raise OnlineStoreConfigError(
        f"online_store: type {kind!r} is not supported: use sqlite or redis"
    )


_SQLITE_TYPES = ("sqlite", "feast.infra.online_stores.sqlite.SqliteOnlineStore")
_REDIS_TYPES = ("redis", "redis_cluster")
_FOR_FEAST_ALONE = {
    "client": ("redis", "glide"),
    "full_scan_for_deletion": (True, False, None),
    "skip_dedup": (True, False),
}


def _refuse_rest(settings: Mapping[str, Any], kind: str) -> None:
    if settings:
        raise OnlineStoreConfigError(
            f"online_store: {', '.join(map(str, settings))} is not supported for type {kind}:"
            " take it out of feature_store.yaml"
        )


def _redis(settings: dict[str, Any]) -> RedisConfig:
    kind = settings.pop("redis_type", "redis")
    if kind not in _REDIS_TYPES:
        raise OnlineStoreConfigError(
            f"online_store: redis_type {kind!r} is not supported: use redis (name the master"
            " itself, not its sentinels) or redis_cluster"
        )
    for name, allowed in _FOR_FEAST_ALONE.items():
        if settings.pop(name, allowed[0]) not in allowed:
            raise OnlineStoreConfigError(
                f"online_store: {name} must be one of {', '.join(map(str, allowed))}"
            )
    text = settings.pop("connection_string", "localhost:6379")
    if not isinstance(text, str):
        raise OnlineStoreConfigError(
            "online_store: connection_string must be text like host:6379,db=0"
        )
    ttl = _key_ttl(settings.pop("key_ttl_seconds", None))
    _refuse_rest(settings, "redis")
    addresses, options = _connection_string(text, kind)
    return RedisConfig(addresses, kind == "redis_cluster", options, ttl)


def _key_ttl(value: object) -> int | None:
    """Seconds; Feast takes 0 for none."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value or None
    raise OnlineStoreConfigError(
        f"online_store: key_ttl_seconds must be a whole number of seconds, not {value!r}"
    )


def _connection_string(text: str, kind: str) -> tuple[tuple[tuple[str, int], ...], dict[str, Any]]:
    """Addresses and options of ``host:port,host:port,name=value``; values are JSON or else text."""
    parts = text.split(",")
    addresses = tuple(
        _address(part, place) for place, part in enumerate(parts, 1) if "=" not in part
    )
    if not addresses:
        raise OnlineStoreConfigError("connection_string names no server: begin it with host:port")
    if len(addresses) > 1 and kind == "redis":
        raise OnlineStoreConfigError(
            "connection_string names several servers, of which Feast would use the first only:"
            " name one, or set redis_type: redis_cluster"
        )
    options: dict[str, Any] = {}
    for place, part in enumerate(parts, 1):
        name, is_option, value = part.partition("=")
        if not is_option:
            continue
        read = _OPTIONS.get(name)
        if read is None:
            # A name that nobody knows may be the piece of a password behind a comma.
            shown = f": {name} {_INSTEAD[name]}" if name in _INSTEAD else " is no known option"
            raise OnlineStoreConfigError(
                f"part {place} of connection_string{shown} (a password with a comma cannot be"
                f" written there); known are {', '.join(sorted(_OPTIONS))}"
            )
        try:
            options[name] = read(_json_or_text(value))
        except ValueError as error:
            # The value itself may be a password: it is not shown.
            raise OnlineStoreConfigError(f"connection_string: {name} must be {error}") from None
    return addresses, _checked(options, kind)


def _checked(options: dict[str, Any], kind: str) -> dict[str, Any]:
    is_cluster = kind == "redis_cluster"
    if is_cluster and options.pop("db", 0) != 0:
        raise OnlineStoreConfigError("connection_string: a cluster has no db but 0: take it out")
    for name in _ONLY_WITHOUT_CLUSTER if is_cluster else _ONLY_WITH_CLUSTER:
        if name in options:
            other = "redis" if is_cluster else "redis_cluster"
            raise OnlineStoreConfigError(f"connection_string: {name} needs redis_type: {other}")
    if not options.get("ssl"):
        for name in options:
            if name.startswith("ssl_"):
                raise OnlineStoreConfigError(
                    f"connection_string: {name} without ssl=true encrypts nothing: add ssl=true"
                )
    skip = options.pop("skip_full_coverage_check", None)
    if skip:
        # Its name in Feast's documentation; today's redis-py has turned it round.
        options["require_full_coverage"] = False
    return {name: value for name, value in options.items() if value is not None}


def _address(part: str, place: int) -> tuple[str, int]:
    """The address in a part, which is not shown if it is none: it may be piece of a password."""
    host, _, port = part.partition(":")
    is_host = host == host.strip() and host and not set(host) & set("@/")
    if not is_host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise OnlineStoreConfigError(
            f"part {place} of connection_string is neither host:port nor name=value (no redis://;"
            " a password with a comma cannot be written there)"
        )
    return host, int(port)


def _json_or_text(value: str) -> object:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError('text; what looks like JSON stands in quotes, as in password="1e5"')


def _switch(value: object) -> bool:
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    raise ValueError("true or false")


def _protocol(value: object) -> int:
    if value in (2, 3) and isinstance(value, int):
        return value
    raise ValueError("2 or 3")


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("a whole number")


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 86_400:
        return float(value)
    raise ValueError("a number of seconds above 0")


def _certificate_check(value: object) -> str:
    if value is None:
        return "none"
    if value in ("none", "optional", "required"):
        return str(value)
    raise ValueError("none, optional or required")


_OPTIONS: dict[str, Callable[[object], Any]] = {
    "db": _whole,
    "username": _text,
    "password": _text,
    "client_name": _text,
    "protocol": _protocol,
    "max_connections": _whole,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _switch,
    "health_check_interval": _whole,
    "ssl": _switch,
    "ssl_ca_certs": _text,
    "ssl_ca_data": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_cert_reqs": _certificate_check,
    "ssl_check_hostname": _switch,
    "require_full_coverage": _switch,
    "skip_full_coverage_check": _switch,
}
_ONLY_WITH_CLUSTER = ("require_full_coverage", "skip_full_coverage_check")
# asyncio's cluster client, which the scorer uses, has no such argument.
_ONLY_WITHOUT_CLUSTER = ("ssl_password",)
_INSTEAD = {
    "retry_on_timeout": "is not supported: Headwater asks again by itself",
    "decode_responses": "is not supported: values are bytes",
}
