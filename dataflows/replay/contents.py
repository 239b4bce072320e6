"""What one generation holds, as digests."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import pyarrow as pa

from contracts.model_repository import ModelRepositoryError
from contracts.online_store import RedisConfig
from dataflows.definitions.repository import Repository
from dataflows.flow.run_context import Places
from dataflows.stores.digest import digest_models, digest_parquet, digest_redis, digest_sqlite
from dataflows.stores.online_writer import OnlineStoreError


@dataclass(frozen=True)
class Digest:
    """SHA-256 of everything that one generation holds: equal exactly when the contents are.

    Attributes:
        online: current values of all entities.
        offline: rows of all views.
        examples: vectors, scores and labels of all models.
        models: all versions of all models.
    """

    online: str
    offline: str
    examples: str
    models: str


def digest(repository: Repository, places: Places) -> Digest:
    """The digest of what lies at these places."""
    offline = [digest_parquet(folder) for _, folder in sorted(places.offline.items())]
    examples = [
        digest_parquet(places.examples / model.name / table)
        for model in repository.plan.models
        for table in ("examples", "outcomes")
    ]
    return Digest(
        online=_digest_online(repository, places),
        offline=" ".join(offline),
        examples=" ".join(examples),
        models=digest_models(places.models),
    )


def digest_if_readable(repository: Repository, places: Places) -> Digest:
    """A replay is what mends stores that cannot be read: they must not be in its way."""
    try:
        return digest(repository, places)
    except (
        OSError, ValueError, sqlite3.Error, pa.ArrowException, ModelRepositoryError,
        OnlineStoreError,
    ):  # fmt: skip
        return Digest("", "", "", "")


def _digest_online(repository: Repository, places: Places) -> str:
    """Empty for a store that was wiped: that is what a replay is for."""
    project = repository.store.project
    if isinstance(places.online, RedisConfig):
        return digest_redis(places.online, project, repository.plan.views)
    if not places.online.path.exists():
        return ""
    return digest_sqlite(places.online.path, project)
