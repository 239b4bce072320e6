"""Rebuilds everything from the log: the same flow into an empty place, then swapped in."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from contracts.evaluation_file import keep_served
from contracts.manifest import learned_number
from contracts.model_repository import ModelRepository, ModelRepositoryError
from contracts.online_store import RedisConfig, SqliteConfig
from contracts.plan import ModelPlan
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.flow.engine import (
    Summary,
    default_places,
    run_locked,
    swap_journal,
)
from dataflows.flow.run_context import Places
from dataflows.flow.state_lock import exclusive_state
from dataflows.flow.store_check import online_filler
from dataflows.flow.target import log_end
from dataflows.stores.digest import digest_models, digest_parquet, digest_redis, digest_sqlite
from dataflows.stores.online_writer import OnlineStoreError
from dataflows.stores.swap import Swap, finish_swap, remove_store, run_swap
from dataflows.versions import ACTOR

_SUFFIX = ".replay"


class ReplayInterruptedError(Exception):
    """A signal ended the replay; nothing has changed."""


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


@dataclass(frozen=True)
class Replayed:
    """What a replay did, and what was there before and is there now."""

    summary: Summary
    before: Digest
    after: Digest


def replay_all(repository: Repository, settings: DataflowSettings) -> Replayed:
    """Run the whole log into empty stores and put these in the place of the live ones.

    Until the swap nobody sees anything of it; a replay that was interrupted is dropped by the next
    one. The dataflow must not run meanwhile; the scorer may.

    Raises:
        EngineError: a dataflow is running, or the log or a store cannot be used.
    """
    live = default_places(repository, settings)
    with exclusive_state(live.state):
        fill = online_filler(repository, settings, live)
        finish_swap(swap_journal(live.state), fill)
        before = _digest_if_readable(repository, live)
        fresh = fresh_places(live)
        _clear(fresh)
        summary = run_locked(repository, settings, fresh, log_end)
        if summary.was_stopped:
            _clear(fresh)
            raise ReplayInterruptedError(
                "the replay was stopped before the end of the log; everything is as it was. Start "
                "it again when there is time for all of it"
            )
        after = digest(repository, fresh)
        for model in repository.plan.models:
            _keep_batch_versions(model, live.models, fresh.models)
        _keep_decisions(live, fresh)
        run_swap(_swap(fresh, live), swap_journal(live.state), fill)
    return Replayed(summary, before, after)


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


def _digest_if_readable(repository: Repository, places: Places) -> Digest:
    """A replay is what mends stores that cannot be read: they must not be in its way."""
    try:
        return digest(repository, places)
    except (
        OSError, ValueError, sqlite3.Error, pa.ArrowException, ModelRepositoryError,
        OnlineStoreError,
    ):  # fmt: skip
        return Digest("", "", "", "")


def _keep_batch_versions(model: ModelPlan, live: Path, fresh: Path) -> None:
    """Carry over what was trained outside of the log, unless the vector is another one now."""
    old = ModelRepository(live)
    if model.name not in old.models():
        return
    for version in old.versions(model.name):
        if learned_number(version) is not None:
            continue
        try:
            manifest, _ = old.load(model.name, version)
        except ModelRepositoryError:
            continue  # what cannot be read cannot be kept
        if manifest.fingerprint == model.schema.fingerprint:
            # With its signature, which nobody could make anew.
            shutil.copytree(live / model.name / version, fresh / model.name / version)


def _keep_decisions(live: Places, fresh: Places) -> None:
    """Carry over what is not in the log: audits, chosen champions, figures of what was served."""
    old, new = ModelRepository(live.models), ModelRepository(fresh.models)
    for model in new.models():
        if model not in old.models():
            continue
        try:
            keep_served(old.root, new.root, model)
            new.take_over(old, model, ACTOR)
        except (ModelRepositoryError, OSError):
            continue  # what cannot be read cannot be kept; the replay mends it


def _digest_online(repository: Repository, places: Places) -> str:
    """Empty for a store that was wiped: that is what a replay is for."""
    project = repository.store.project
    if isinstance(places.online, RedisConfig):
        return digest_redis(places.online, project, repository.plan.views)
    if not places.online.path.exists():
        return ""
    return digest_sqlite(places.online.path, project)


def fresh_places(live: Places) -> Places:
    """Where a replay builds what will take the place of ``live``: beside it."""
    # What goes to a server is gathered in a file first, so that nobody sees half of it.
    if isinstance(live.online, SqliteConfig):
        online = live.online.path
    else:
        online = live.state.with_name(live.state.name + ".online.db")
    return Places(
        state=_sibling(live.state),
        online=SqliteConfig(_sibling(online)),
        offline={name: _sibling(path) for name, path in live.offline.items()},
        examples=_sibling(live.examples),
        models=_sibling(live.models),
    )


def _sibling(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)


def _clear(places: Places) -> None:
    for folder in (places.state, places.examples, places.models, *places.offline.values()):
        if folder.exists():
            shutil.rmtree(folder)
    remove_store(_file(places))


def _swap(fresh: Places, live: Places) -> Swap:
    folders = [
        (fresh.state, live.state),
        (fresh.examples, live.examples),
        (fresh.models, live.models),
        *((fresh.offline[name], live.offline[name]) for name in live.offline),
    ]
    live_online = live.online.path if isinstance(live.online, SqliteConfig) else None
    return Swap(tuple(folders), _file(fresh), live_online)


def _file(fresh: Places) -> Path:
    assert isinstance(fresh.online, SqliteConfig), "a replay builds a file"
    return fresh.online.path
