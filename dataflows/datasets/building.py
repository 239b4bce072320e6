"""Makes the rows of a data set: one model of a repository, over a range of the log, by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from contracts.online_store import SqliteConfig
from contracts.plan import ModelPlan, Plan
from contracts.settings import DataflowSettings
from dataflows.datasets.errors import DatasetError
from dataflows.datasets.for_training import label_text
from dataflows.datasets.manifest import LogRange
from dataflows.datasets.order import Made, Order, state_folder
from dataflows.datasets.range_log import RangeLog
from dataflows.datasets.rows import figures
from dataflows.datasets.taking import take_rows
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.repository import Repository, load_repository
from dataflows.erasure.tombstones import read_tombstones
from dataflows.flow.engine import run_locked
from dataflows.flow.identity import identity_parts
from dataflows.flow.run_context import Places
from dataflows.flow.state_lock import exclusive_state
from dataflows.flow.target import LogEnd
from dataflows.replay.selection import Selection, restricted
from dataflows.sources.archive import survey
from dataflows.sources.archive_log import with_archive
from dataflows.sources.plan_log import PlanLog, open_log

# Of the consumer group; it commits offsets for those who watch a lag, which is not ours to change.
_GROUP_SUFFIX = "-datasets"


def build_rows(order: Order) -> Made:
    """Run one model over the log and take its rows, in this process.

    Nothing outside of the order's folders is written: what the run would publish, alert of or set
    aside as bad goes into ``work``, and is for nobody.

    Raises:
        DatasetError: there is no such model, or the log does not hold the range.
        DefinitionError, EngineError, LogError, ...: as in any run.
    """
    alone = only_model(_load(order), order.model)
    work, real = Path(order.work), DataflowSettings.for_repo(Path(order.repository))
    logs: list[RangeLog] = []

    def open_range(_: DataflowSettings, plan: Plan) -> RangeLog:
        logs.append(_open_range(real, plan, order.log))
        return logs[0]

    parts: dict[str, str] = {}

    def to_the_end(log: PlanLog) -> LogEnd:
        parts.update(identity_parts(alone, real, log))
        return LogEnd(log.ends())

    forgotten = read_tombstones(real.state_dir)
    places, settings = _places(work, alone.plan), _settings(real, work)
    with exclusive_state(places.state):
        summary = run_locked(alone, settings, places, to_the_end, open_range)
    if summary.was_stopped:
        raise DatasetError("stopped before the end of the log; nothing was kept, start it again")
    (model,) = alone.plan.models
    take_rows(model, places.examples, Path(order.rows), order.bounds)
    return Made(
        definitions=parts["definitions"],
        fingerprint=model.schema.fingerprint,
        label=label_text(model),
        spine_key=model.spine_key,
        log=logs[0].range,
        forgotten=0 if forgotten is None else forgotten.newest[1],
        figures=figures(Path(order.rows)),
    )


def _load(order: Order) -> Repository:
    try:
        return load_repository(Path(order.definitions))
    except DefinitionError as error:
        if order.definitions == order.repository:
            raise
        raise DatasetError(
            f"definitions cannot be loaded from what is in the commit alone ({error}); commit what "
            "they need, or build with --allow-dirty"
        ) from error


def only_model(repository: Repository, name: str) -> Repository:
    """The repository with one model and the views that it reads, which are not stored.

    Raises:
        DatasetError: there is no such model.
    """
    known = {model.name: model for model in repository.plan.models}
    if name not in known:
        listed = ", ".join(known) or "none"
        raise DatasetError(f"there is no model {name!r}; the repository has: {listed}")
    # No state is handed to anybody, so other models that read these views need not come along.
    chosen = restricted(repository, Selection(tuple(sorted(known[name].views)), (name,)))
    views = tuple(replace(view, offline_path="") for view in chosen.plan.views)
    models = tuple(_unwatched(model) for model in chosen.plan.models)
    return replace(chosen, plan=replace(chosen.plan, views=views, models=models))


def _unwatched(model: ModelPlan) -> ModelPlan:
    """The model, watched for drift by nobody: that changes no row."""
    return replace(model, drift=None)


def _places(work: Path, plan: Plan) -> Places:
    return Places(
        state=state_folder(work),
        online=SqliteConfig(work / "online.db"),
        offline={view.name: work / "offline" / view.name for view in plan.views},
        examples=work / "examples",
        models=work / "models",
    )


def _settings(real: DataflowSettings, work: Path) -> DataflowSettings:
    """Those of a run by itself. It reads the real log, but writes to one of its own."""
    return real.model_copy(
        update={
            "log_url": (work / "log").absolute().as_uri(),
            "addresses": "",
            "process": 0,
            # What comes behind the range is for others, so nobody need wait whether it does.
            "idle_timeout_seconds": 0.0,
            "signing_key_file": "",
            "verify_keys_file": "",
        }
    )


def _open_range(settings: DataflowSettings, plan: Plan, wanted: LogRange | None) -> RangeLog:
    """The log, with what an archive has of it, as another consumer group than the dataflow's."""
    group = (settings.kafka_group or f"headwater-{plan.project}") + _GROUP_SUFFIX
    archive = survey(settings, plan) if settings.archive_url else None
    log = open_log(settings.model_copy(update={"kafka_group": group}), plan)
    try:
        if archive is not None:
            log = with_archive(log, archive, settings)
        return RangeLog(log, wanted)
    except BaseException:
        log.close()
        raise
