"""Definitions that change, and runs of them that stop at a place in the log or go to its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from contracts.drift_record import report_path
from contracts.evaluation_file import evaluation_file
from contracts.log import Chunk, PartitionReader
from contracts.plan import Plan
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.flow.engine import run_locked
from dataflows.flow.run_context import Places
from dataflows.flow.state_lock import exclusive_state
from dataflows.flow.target import Cut, Target, log_end, never
from dataflows.replay.selection import Selection
from dataflows.sources.partition import Position
from dataflows.sources.plan_log import FilePlanLog, LogPartition, PlanLog, open_log
from dataflows.stores.digest import digest_models, digest_parquet, digest_sqlite
from dataflows.watermark import NOT_YET
from tests.flow import shop

# Compiles definitions, each once.
Load = Callable[[str], Repository]
# A view that nobody reads, with strings and lists, and a second model with a view of its own.
_MORE = """
user_totals = view(
    "user_totals", [user], ORDERS, {"user": String},
    [over("sum", 20, 5, "spent"), over("first", 30, 10, "first_30m"),
     Aggregation(column="order_id", function="last", name="last_order"),
     Aggregation(column="order_id", function="count_distinct", name="orders_40m",
                 time_window=timedelta(minutes=40), slide_interval=timedelta(minutes=20))],
    {"spent": Float64, "first_30m": Float64, "last_order": String, "orders_40m": Int64})
"""
_MODEL = """
shop_totals = view(
    "shop_totals", [shop], ORDERS, {"shop": Int64}, [over("mean", 30, 10, "mean_30m")],
    {"mean_30m": Float64})
shop_service = FeatureService(name="late_shop", features=[shop_totals])
late_shop = Model(
    name="late_shop", features="late_shop", request=["amount"],
    spine=source(ORDERS, "shop_spine"), spine_key="order_id",
    label=Label(source=source(OUTCOMES, "shop_label"), key="order_id", value="days > 5",
                timeout=timedelta(minutes=20)),
    publish_every=timedelta(minutes=20), segments=["shop"],
    learner=lambda: preprocessing.StandardScaler()
    | linear_model.LogisticRegression(optimizer=optim.SGD(0.05)))
"""
_NEW_VIEW = """
visit_sums = view(
    "visit_sums", [user], VISITS, {"user": String},
    [Aggregation(column="pages", function="sum", name="pages_10m",
                 time_window=timedelta(minutes=10), slide_interval=timedelta(minutes=5))],
    {"pages_10m": Int64})
"""
# A model that shares a view with the one before, reads an on-demand view, and watches for drift.
_SHARING = """
from feast import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from contracts.model_spec import Drift

asked = RequestSource(name="asked", schema=[Field(name="amount", dtype=Float64)])


@on_demand_feature_view(sources=[shop_totals, asked], mode="python", singleton=True,
                        schema=[Field(name="ratio", dtype=Float64)])
def compared(inputs):
    return {"ratio": (inputs["amount"] or 0.0) / (1.0 + (inputs["mean_30m"] or 0.0))}


sharing_service = FeatureService(name="large_order", features=[shop_totals, compared])
large_order = Model(
    name="large_order", features="large_order", request=["amount"],
    spine=source(ORDERS, "large_spine"), spine_key="order_id",
    label=Label(source=source(OUTCOMES, "large_label"), key="order_id", value="days > 4",
                timeout=timedelta(minutes=20)),
    publish_every=timedelta(minutes=20),
    drift=Drift(window_rows=100, reference_rows=200, warmup_rows=0),
    learner=lambda: preprocessing.StandardScaler()
    | linear_model.LogisticRegression(optimizer=optim.SGD(0.05)))
"""
OLD = shop.DEFINITIONS + _MORE + _MODEL
_SHARED_OLD = OLD + _SHARING
# What changes -> (the new definitions, views and models that have to be replayed).
CHANGES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "a new view": (OLD + _NEW_VIEW, ("visit_sums",), ()),
    "a changed view": (
        OLD.replace('over("sum", 20, 5, "spent"),', 'over("sum", 40, 10, "spent"),'),
        ("user_totals",), (),
    ),
    "a changed view that a model reads": (
        OLD.replace('over("mean", 30, 10, "mean_30m")],\n    {"mean_30m": Float64})\nshop_service',
                    'over("mean", 50, 5, "mean_30m")],\n    {"mean_30m": Float64})\nshop_service'),
        ("shop_totals",), (),
    ),
    "a changed view that two models read": (
        _SHARED_OLD.replace('("mean", 30, 10, "mean_30m")],\n    {"mean_30m": Float64})\nshop_ser',
                            '("mean", 50, 5, "mean_30m")],\n    {"mean_30m": Float64})\nshop_ser'),
        ("shop_totals",), (),
    ),
    "a changed on-demand view": (
        _SHARED_OLD.replace("(1.0 + (inputs", "(2.0 + (inputs"), (), ("large_order",),
    ),
    "a changed model": (OLD.replace("optim.SGD(0.01)", "optim.SGD(0.02)"), (), ("late_order",)),
    "a new model": (OLD, (), ("late_shop",)),
    "a model that is gone": (shop.DEFINITIONS + _MORE, (), ()),
    "a view that is gone, and a new one": (
        shop.DEFINITIONS + _MODEL + _NEW_VIEW, ("visit_sums",), (),
    ),
}  # fmt: skip


def old_definitions(change: str) -> str:
    """What the definitions were before the change."""
    if change in ("a changed view that two models read", "a changed on-demand view"):
        return _SHARED_OLD
    return shop.DEFINITIONS + _MORE if change == "a new model" else OLD


class _StoppingReader:
    """A reader that says when it has nothing to read, or when the silence was noticed."""

    def __init__(self, reader: PartitionReader, stopper: _Stopper, name: str) -> None:
        self._reader = reader
        self._stopper = stopper
        self._name = name

    def read(self, bytes_max: int, until: int | None = None) -> Chunk | None:
        """As the reader does."""
        chunk = self._reader.read(bytes_max, until)
        if chunk is None and not self._stopper.waits_for_silence:
            self._stopper.is_there(self._name)
        return chunk

    def has_news(self) -> bool:
        """As the reader does; it is asked once the partition is taken for idle."""
        self._stopper.is_there(self._name)
        return self._reader.has_news()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


class _Stopper:
    """The log of files; once all of it was read the run is told to stop, as an operator does."""

    def __init__(self, log: FilePlanLog, stop: str) -> None:
        self._log = log
        self.waits_for_silence = stop == "silent"
        self._under_way = {partition.name for partition in log.partitions}

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """A reader that is looked at."""
        reader: Any = _StoppingReader(self._log.open(partition, offset), self, partition.name)
        found: PartitionReader = reader
        return found

    def is_there(self, name: str) -> None:
        """This partition has come to its end."""
        if name in self._under_way:
            self._under_way.remove(name)
            if not self._under_way:
                os.kill(os.getpid(), signal.SIGTERM)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def run_to_cut(repository: Repository, log: Path, out: Path, stop: str, **given: Any) -> None:
    """Run until all of the log is read, and stop at a signal.

    ``stop`` is "busy" if nobody is to be idle by then, "silent" if everybody, else "between".
    There must be a record in each partition if nobody is to be idle: others wait for the first.
    """
    idle_seconds = 3_600.0 if stop == "busy" else 0.0

    def opened(settings: DataflowSettings, plan: Plan) -> PlanLog:
        folder = settings.log.folder
        assert folder is not None
        stopper: Any = _Stopper(FilePlanLog(folder, plan), stop)
        found: PlanLog = stopper
        return found

    settings = shop.settings(
        repository.directory, log, out, idle_timeout_seconds=idle_seconds, **given
    )
    with exclusive_state(out / "state"):
        run_locked(repository, settings, places(repository.plan, out), never, opened)


def cut_off(
    repository: Repository,
    log: Path,
    out: Path,
    offsets: Mapping[str, int],
    watermark_us: int = NOT_YET,
) -> None:
    """Run to a cut; the log goes on behind it."""
    settings = shop.settings(repository.directory, log, out, idle_timeout_seconds=0.0)

    def target(log: PlanLog) -> Target:
        numbered = {p.number: offsets.get(p.name, 0) for p in log.partitions}
        return Cut(numbered, watermark_us)

    with exclusive_state(out / "state"):
        run_locked(repository, settings, places(repository.plan, out), target)


def halves(positions: Mapping[str, Position], log: Path) -> dict[str, int]:
    """A record's offset in each partition, somewhere before its position."""
    found = {}
    for name, position in positions.items():
        read = (log / f"{name}.ndjson").read_bytes()[: position.offset // 2]
        found[name] = read.rfind(b"\n") + 1
    return found


def run_to_end(repository: Repository, log: Path, out: Path, **given: Any) -> None:
    """Run until all of the log has taken effect."""
    settings = shop.settings(repository.directory, log, out, **given)
    with exclusive_state(out / "state"):
        run_locked(repository, settings, places(repository.plan, out), log_end)


def places(plan: Plan, out: Path) -> Places:
    """Where a run of a plan writes below ``out``."""
    return shop.places(out, [view.name for view in plan.views])


def opened_log(repository: Repository, log: Path, out: Path) -> closing[PlanLog]:
    """The log of a repository, to be closed."""
    return closing(open_log(shop.settings(repository.directory, log, out), repository.plan))


def contents(folder: Path) -> dict[str, str]:
    """Digest of each file; but for what SQLite makes and removes while a file is open."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def put_together(plan: Plan, selection: Selection, live: Path, fresh: Path, out: Path) -> None:
    """All results but the state: those of the selection from ``fresh``, others from ``live``."""
    for view in plan.views:
        side = fresh if view.name in selection.views else live
        _copy(side / "offline" / view.name, out / "offline" / view.name)
    for model in plan.models:
        side = fresh if model.name in selection.models else live
        for folder in ("examples", "models"):
            _copy(side / folder / model.name, out / folder / model.name)
    _join_online(plan, selection, live, fresh, out)


def _copy(folder: Path, new: Path) -> None:
    if folder.exists():
        shutil.copytree(folder, new)


def _join_online(plan: Plan, selection: Selection, live: Path, fresh: Path, out: Path) -> None:
    with closing(sqlite3.connect(out / "online.db")) as store:
        for name, side in (("live", live), ("fresh", fresh)):
            store.execute(f"ATTACH ? AS {name}", (str(side / "online.db"),))
        for view in plan.views:
            side_name = "fresh" if view.name in selection.views else "live"
            table = f"shop_{view.name}"
            query = f"SELECT sql FROM {side_name}.sqlite_master WHERE name = ?"
            # None if not a single record was read.
            for (made,) in store.execute(query, (table,)).fetchall():
                store.execute(made)
                store.execute(f"INSERT INTO main.{table} SELECT * FROM {side_name}.{table}")
        store.commit()


def digests(plan: Plan, out: Path) -> dict[str, str]:
    """What a run of a plan left behind, by store."""
    found = {"online": digest_sqlite(out / "online.db", "shop")}
    for view in plan.views:
        found[view.name] = digest_parquet(out / "offline" / view.name)
    for model in plan.models:
        for table in ("examples", "outcomes"):
            found[f"{table} of {model.name}"] = digest_parquet(
                out / "examples" / model.name / table
            )
        models = out / "models"
        files = {
            "evaluation": evaluation_file(models, model.name, "pipeline"),
            "drift": report_path(models, model.name),
        }
        for name, file in files.items():
            found[f"{name} of {model.name}"] = file.read_text() if file.exists() else ""
    return {**found, "models": digest_models(out / "models")}


def delayed(records: Iterable[shop.Record], seconds: int) -> list[shop.Record]:
    """The same records as if they had happened and been written later."""
    return [_later(record, seconds * shop.SECOND_US) for record in records]


def _later(record: shop.Record, by_us: int) -> shop.Record:
    if record.fields is None:
        return replace(record, at_us=record.at_us + by_us)
    event_us = record.fields["event_us"] + by_us
    moment = datetime.fromtimestamp(event_us // shop.SECOND_US, UTC)
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{event_us % shop.SECOND_US:06d}Z"
    written = {**json.loads(record.line), "event_timestamp": stamp}
    fields = {**record.fields, "event_us": event_us, "event_timestamp": stamp}
    return replace(
        record, at_us=record.at_us + by_us, line=json.dumps(written).encode(), fields=fields
    )
