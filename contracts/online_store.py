"""The online store as ``feature_store.yaml`` configures it, read as Feast reads it."""

from __future__ import annotations

from collections.abc import Mapping
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


def parse_online_store(store: Mapping[str, Any] | str | None, directory: Path) -> (
    SqliteConfig | RedisConfig
):  # fmt: skip
    """The store that the ``online_store`` part names; SQLite at ``data/online.db`` if there is none.

    Raises:
        OnlineStoreConfigError: the type is not supported, or an address or option is malformed.
    """
    raise NotImplementedError
