"""What the scorer asks of an online store, and the choice of one from ``feature_store.yaml``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import yaml

from contracts.online_store import (
    OnlineStoreConfigError,
    RedisConfig,
    SqliteConfig,
    parse_online_store,
)
from scorer.errors import ConfigurationError


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Some features of one view. Made by ``source``, so that there is one object of each.

    Attributes:
        view: name of the feature view.
        features: names of the features, in the order in which their values are wanted.
    """

    view: str
    features: tuple[str, ...]


@lru_cache(maxsize=4_096)
def source(view: str, features: tuple[str, ...]) -> Source:
    """The one ``Source`` of these features."""
    return Source(view, features)


class Wanted(NamedTuple):
    """One read: some features of one entity in one view.

    Attributes:
        source: the features.
        entity_key: Feast's serialized entity key (version 3).
    """

    source: Source
    entity_key: bytes

    @property
    def view(self) -> str:
        """Name of the feature view."""
        return self.source.view

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return self.source.features


def wanted(view: str, features: tuple[str, ...], entity_key: bytes) -> Wanted:
    """These features of that entity."""
    return Wanted(source(view, features), entity_key)


class Cells(NamedTuple):
    """The answer to one ``Wanted`` as it is stored.

    Attributes:
        event_time_us: event time of the entity's row, microseconds since 1970 UTC; None if the
            store has no row of that entity in that view.
        values: one for each wanted feature, in that order: the bytes of Feast's ``Value``, or None
            for a feature the row does not have.
    """

    event_time_us: int | None
    values: Sequence[bytes | None]


class OnlineReader(Protocol):
    """Reads current feature values. Implementations read all that is wanted in one go."""

    async def read_cells(self, wanted: Sequence[Wanted]) -> list[Cells]:
        """One ``Cells`` for each ``Wanted``, in that order; all of an entity is from one moment.

        Values that a replay puts in place are all there, or none of them; in a cluster of Redis
        that is so on each of its nodes.

        Raises:
            StoreUnavailableError: the store did not answer, or its bytes cannot be read.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and files. Reading afterwards is an error."""
        ...


def read_store_config(repo_dir: Path) -> tuple[str, SqliteConfig | RedisConfig]:
    """Project and online store of ``repo_dir/feature_store.yaml``, with ``${ENV}`` put in as Feast.

    Raises:
        ConfigurationError: the file is missing, not readable, or lacks what the scorer needs.
    """
    file = repo_dir / "feature_store.yaml"
    try:
        data = yaml.safe_load(os.path.expandvars(file.read_text()))
    except FileNotFoundError:
        raise ConfigurationError(
            f"no {file}: point --repo at the folder that holds feature_store.yaml"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"cannot read {file}: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("project"), str):
        raise ConfigurationError(f"{file} names no project: add `project: NAME`")
    store = data.get("online_store")
    if not isinstance(store, dict | str | None):
        raise ConfigurationError(f"{file}: online_store must be a mapping with a `type`")
    try:
        return data["project"], parse_online_store(store, repo_dir)
    except OnlineStoreConfigError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def open_online_store(repo_dir: Path) -> OnlineReader:
    """The reader for the online store that ``repo_dir/feature_store.yaml`` configures.

    Raises:
        ConfigurationError: the file is wrong, or the store's type is not supported.
    """
    project, config = read_store_config(repo_dir)
    if isinstance(config, SqliteConfig):
        from scorer.sqlite_reader import SqliteReader

        return SqliteReader(config.path, project)
    from scorer.redis_reader import RedisReader

    return RedisReader(config, project)
