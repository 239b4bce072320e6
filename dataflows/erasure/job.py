"""One erasure: the tombstone first, then what is stored, each step as good as new when repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.category import text_of
from contracts.plan import ModelPlan, Plan
from contracts.settings import DataflowSettings
from dataflows import tables
from dataflows.datasets.catalogue import Catalogue
from dataflows.definitions.repository import Repository
from dataflows.erasure import online, parquet, served
from dataflows.erasure.report import Remains, Report, what_remains
from dataflows.erasure.spine import SpineSearch, Tell
from dataflows.erasure.tombstones import (
    Tombstone,
    Tombstones,
    no_tombstones,
    read_tombstones,
    write_tombstones,
)
from dataflows.erasure.wanted import Wanted
from dataflows.flow.engine import default_places
from dataflows.flow.fence import fenced, rebuilding
from dataflows.flow.refilling import online_filler
from dataflows.flow.run_context import Places
from dataflows.learning.pending import key_codes
from dataflows.replay.earlier import patience_seconds
from dataflows.replay.places import fresh_places
from dataflows.served.state import EvaluatorError, evaluator_folder
from dataflows.sources.archive import survey
from dataflows.sources.archive_log import with_archive
from dataflows.sources.plan_log import PlanLog, open_log
from dataflows.stores.day_files import TableSpec
from dataflows.stores.handover import finish_handover


@dataclass(frozen=True)
class Asked:
    """Who is to be forgotten, when that was said (RFC 3339), and by whom."""

    wanted: list[Wanted]
    at: str
    by: str


def preview(
    repository: Repository, settings: DataflowSettings, wanted: list[Wanted], tell: Tell
) -> Report:
    """Count what ``forget`` would remove; a running dataflow goes on meanwhile.

    Raises:
        LogError, ErasureError, OnlineStoreError, EvaluatorError: something cannot be read.
    """
    plan, places = repository.plan, default_places(repository, settings)
    search = SpineSearch(plan, wanted, settings)
    _search(search, settings, tell)
    _add_from_outcomes(search, plan, places, wanted)
    report = _new_report(wanted, is_dry=True)
    report.add("online", online.count_online(places.online, repository.store.project, plan, wanted))
    for spec, columns, are_meant in _tables(plan, places, wanted, search.keys):
        _add_table(report, spec, parquet.count_rows(spec, columns, are_meant))
    folder = evaluator_folder(settings.state_dir)
    report.add("evaluator", served.count_served(folder, search.keys))
    _say_what_remains(report, plan, wanted, settings)
    return report


def forget(repository: Repository, settings: DataflowSettings, asked: Asked, tell: Tell) -> Report:
    """Leave tombstones, and remove what is stored. A running dataflow is made to end before.

    What is interrupted is finished by doing it again.

    Raises:
        EngineError: the dataflow did not end, or a replay is under way.
        TombstoneError, LogError, ErasureError, OnlineStoreError, EvaluatorError: what went wrong.
    """
    wanted, plan, live = asked.wanted, repository.plan, default_places(repository, settings)
    search = SpineSearch(plan, wanted, settings)
    with rebuilding(live.state):
        # Most of the log is read while the dataflow still runs.
        _search(search, settings, tell)
        with fenced(live.state, "an erasure", patience_seconds(settings)):
            finish_handover(live.state, online_filler(repository, settings, live))
            with closing(open_log(settings, plan)) as log:
                ends = log.ends()
                search.read(log, ends, tell)
                _add_from_outcomes(search, plan, live, wanted)
                tombstones = _with_new(settings.state_dir, asked, search, log, ends)
            write_tombstones(settings.state_dir, tombstones)
            report = _new_report(wanted, is_dry=False)
            report.tombstones = tuple(sorted(one.number for one in tombstones.tombstones))[
                -report.entities :
            ]
            _remove(report, repository, settings, wanted, search)
            write_tombstones(settings.state_dir, tombstones.done(report.tombstones))
    _say_what_remains(report, plan, wanted, settings)
    return report


def _remove(
    report: Report,
    repository: Repository,
    settings: DataflowSettings,
    wanted: list[Wanted],
    search: SpineSearch,
) -> None:
    plan, live = repository.plan, default_places(repository, settings)
    project = repository.store.project
    report.add("online", online.remove_online(live.online, project, plan, wanted))
    counts: Counter[str] = Counter()
    # What an interrupted replay has built is put in place when it goes on.
    for places in (live, fresh_places(live)):
        if places is not live:
            online.remove_online(places.online, project, plan, wanted)
        for spec, columns, are_meant in _tables(plan, places, wanted, search.keys):
            wal = places.state / "tables"
            counts[spec.name] += parquet.remove_rows(spec, columns, are_meant, wal)
            if places is live:
                _add_table(report, spec, counts[spec.name])
    folder = evaluator_folder(settings.state_dir)
    try:
        report.add("evaluator", served.remove_served(folder, search.keys))
    except EvaluatorError as error:
        if not served.is_running(folder):
            raise
        report.remains.append(Remains("evaluator", f"rows that wait for their label: {error}"))


def _search(search: SpineSearch, settings: DataflowSettings, tell: Tell) -> None:
    """Read all there is now, what only an archive has too."""
    archive = survey(settings, search.plan) if settings.archive_url else None
    with closing(open_log(settings, search.plan)) as log:
        whole = log if archive is None else with_archive(log, archive, settings)
        search.read(whole, whole.ends(), tell)


def _with_new(
    state_dir: Path, asked: Asked, search: SpineSearch, log: PlanLog, ends: dict[int, int]
) -> Tombstones:
    known = read_tombstones(state_dir) or no_tombstones()
    spine_keys = {
        model: tuple(known.spine_digest(code) for code in key_codes(sorted(keys)).tolist())
        for model, keys in search.keys.items()
        if keys
    }
    new: list[Tombstone] = []
    for one in asked.wanted:
        for key in one.keys:
            new.append(
                Tombstone(
                    number=0,
                    join_keys=one.names,
                    entity=known.digest(key),
                    log=log.kind,
                    topics=dict(log.topic_ids),
                    ends={p.name: ends[p.number] for p in log.partitions},
                    # Those who are forgotten together need them once.
                    spine_keys=spine_keys if not new else {},
                    at=asked.at,
                    by=asked.by,
                )
            )
    return known.added(new)


def _tables(
    plan: Plan, places: Places, wanted: Sequence[Wanted], keys: dict[str, set[str]]
) -> Iterable[tuple[TableSpec, list[str], parquet.AreMeant]]:
    """Tables that may hold rows of them: what to look at, and what tells."""
    for view in plan.views:
        path = places.offline.get(view.name)
        of_view = [one for one in wanted if view in one.views(plan)]
        if path is not None and of_view:
            names = list(dict.fromkeys(name for one in of_view for name in one.names))
            yield tables.view_table(view, path), names, _of_entities(of_view)
    for model in plan.models:
        if keys.get(model.name):
            for make in (tables.examples_table, tables.outcomes_table):
                are_meant = _of_spine(model, keys[model.name])
                yield make(model, places.examples), [model.spine_key], are_meant


def _of_entities(wanted: list[Wanted]) -> parquet.AreMeant:
    def are_meant(table: pa.Table) -> parquet.Bools:
        columns = {name: table.column(name).to_pylist() for name in table.schema.names}
        found: parquet.Bools = np.logical_or.reduce([one.rows(columns) for one in wanted])
        return found

    return are_meant


def _of_spine(model: ModelPlan, keys: set[str]) -> parquet.AreMeant:
    def are_meant(table: pa.Table) -> parquet.Bools:
        found = table.column(model.spine_key).to_pylist()
        return np.fromiter((key in keys for key in found), np.bool_, len(found))

    return are_meant


def _add_from_outcomes(
    search: SpineSearch, plan: Plan, places: Places, wanted: Sequence[Wanted]
) -> None:
    """Spine rows that the log has no more, of models whose segments say whose they were."""
    for model in plan.models:
        for one in wanted:
            if model not in one.models(plan) or not set(one.names) <= set(model.segments):
                continue
            spec = tables.outcomes_table(model, places.examples)
            texts = Wanted(
                one.names, one.types, tuple(tuple(map(text_of, values)) for values in one.values)
            )
            columns = [tables.segment_column(name) for name in one.names]
            for path in sorted(spec.path.glob("????-??-??.parquet")):
                with path.open("rb") as file:
                    table = pq.read_table(file, columns=[model.spine_key, *columns])
                by_name = {
                    name: table.column(column).to_pylist()
                    for name, column in zip(one.names, columns, strict=True)
                }
                rows = np.flatnonzero(texts.rows(by_name)).tolist()
                found = table.column(model.spine_key).to_pylist()
                search.keys.setdefault(model.name, set()).update(found[row] for row in rows)


def _new_report(wanted: list[Wanted], *, is_dry: bool) -> Report:
    count = sum(len(one.values) for one in wanted)
    return Report(is_dry, wanted[0].names, count)


def _add_table(report: Report, spec: TableSpec, rows: int) -> None:
    where, _, name = spec.name.partition("/")
    report.add("offline" if where == "views" else where, {name: rows} if rows else {})


def _say_what_remains(
    report: Report, plan: Plan, wanted: list[Wanted], settings: DataflowSettings
) -> None:
    examples = {one.name: one.rows for one in report.removed if one.where == "examples"}
    report.remains += what_remains(plan, wanted, settings.prediction_topic, examples)
    models = {model.name for one in wanted for model in one.models(plan)}
    known = {model.name for model in plan.models}
    if kept := Catalogue(settings.datasets_dir).keeping(models, known):
        report.remains.append(
            Remains(
                "datasets",
                f"data sets never change, so {', '.join(kept)} may hold the entities still: build "
                "others with `headwater dataset build` and remove these folders in "
                f"{settings.datasets_dir}",
            )
        )
