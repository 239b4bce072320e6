"""A shop whose dataflow is run, stopped, and made to forget; all of it in one folder."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.erasure.job import Asked, forget, preview
from dataflows.erasure.report import Report
from dataflows.erasure.wanted import join_keys_of, wanted_entities
from dataflows.flow.engine import default_places, run_locked
from dataflows.flow.run_context import Places
from dataflows.flow.state_lock import exclusive_state
from dataflows.flow.target import TargetOf, cut_at_end, log_end
from tests.flow import shop

AT = "2026-01-02T03:04:05+00:00"
USER_VIEWS = ("user_orders", "user_shop", "user_visits")
# View -> what a rebuilt world must have in common with one that forgot.
Contents = dict[str, Any]


def silent(partition: str, offset: int, end: int) -> None:
    """Nobody wants to know how far the log was read."""


def moved(repository: Repository, out: Path) -> Repository:
    """The repository as if its folder were ``out``, with stores as ``shop`` reads them."""
    views = tuple(
        replace(view, offline_path=str(out / "offline" / view.name))
        for view in repository.plan.views
    )
    store = replace(repository.store, online_store={"type": "sqlite", "path": "online.db"})
    plan = replace(repository.plan, views=views)
    return replace(repository, directory=out, plan=plan, store=store)


@dataclass(frozen=True)
class World:
    """One folder with a log and everything that was made of it.

    Attributes:
        out: the folder.
        repository: whose places are in it.
        rebuilt: the folder of a replay.
    """

    out: Path
    repository: Repository

    @property
    def log(self) -> Path:
        """The log."""
        return self.out / "log"

    @property
    def rebuilt(self) -> Path:
        """Where ``rebuild`` builds."""
        return self.out / "rebuilt"

    def settings(self, **given: Any) -> DataflowSettings:
        """Settings of a run."""
        chosen = {
            "shards": 3,
            "offline_publish_seconds": 0.0,
            "idle_timeout_seconds": 0.2,
            "state_dir": self.out / "state",
            "examples_dir": self.out / "examples",
            "model_repository": self.out / "models",
            **given,
        }
        return DataflowSettings.for_repo(self.out, log_url=self.log.absolute().as_uri(), **chosen)

    @property
    def places(self) -> Places:
        """Where everything lies."""
        return default_places(self.repository, self.settings())

    def write(self, records: Iterable[shop.Record]) -> None:
        """Append to the log."""
        shop.write_log(self.log, list(records))

    def stop_at_end(self, **given: Any) -> None:
        """Run to where the log ends, and stop as at a signal: more may come behind it."""
        # Nobody is to be taken for silent, so that what comes is not late.
        self.run(self.places, cut_at_end, idle_timeout_seconds=3_600.0, **given)

    def run_to_end(self, **given: Any) -> None:
        """Run to where the log ends for good."""
        self.run(self.places, log_end, **given)

    def rebuild(self) -> Path:
        """Replay the log into an empty place, with the tombstones of this world; the place."""
        self.run(shop.places(self.rebuilt), log_end)
        return self.rebuilt

    def forget(self, entity: str, *keys: tuple[Any, ...]) -> Report:
        """Forget entities; each of ``keys`` has a value for each join key, sorted by name."""
        asked = Asked(self._wanted(entity, keys), AT, "ann")
        return forget(self.repository, self.settings(), asked, silent)

    def preview(self, entity: str, *keys: tuple[Any, ...]) -> Report:
        """What ``forget`` would do."""
        return preview(self.repository, self.settings(), self._wanted(entity, keys), silent)

    def _wanted(self, entity: str, keys: tuple[tuple[Any, ...], ...]) -> Any:
        plan = self.repository.plan
        names = join_keys_of(plan, self.repository.entities, entity)
        return wanted_entities(plan, names, lambda kind: keys)

    def run(self, places: Places, target: TargetOf, **given: Any) -> None:
        """Run into some place until something."""
        with exclusive_state(places.state):
            run_locked(self.repository, self.settings(**given), places, target)


def contents(repository: Repository, out: Path) -> Contents:
    """All rows of all views and examples, without scores: these depend on what was learned."""
    found: Contents = {}
    for view in repository.plan.views:
        found[f"online {view.name}"] = sorted(
            shop.online_rows(repository, out, view.name), key=repr
        )
        rows = []
        if list((out / "offline" / view.name).glob("*.parquet")):
            rows = shop.offline_rows(repository, out, view.name)
        found[f"offline {view.name}"] = sorted(rows, key=repr)
    for table, columns in (
        ("examples", "* exclude (score)"),
        ("outcomes", "order_id, event_timestamp, label_timestamp, label, segment__user"),
    ):
        found[table] = _rows(out / "examples" / "late_order" / table, columns)
    return found


def _rows(folder: Path, columns: str) -> list[str]:
    if not list(folder.glob("*.parquet")):
        return []
    with closing(duckdb.connect()) as connection:
        query = f"SELECT {columns} FROM read_parquet('{folder}/*.parquet')"
        return sorted(map(repr, connection.execute(query).fetchall()))


def bytes_below(folder: Path, text: bytes) -> list[str]:
    """Files below a folder in which these bytes stand."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and text in path.read_bytes()
    )
