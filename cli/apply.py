"""`headwater apply`: compile, Feast's own apply, the online tables and folders, the plan file."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.failures import CommandError
from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from contracts.plan import Plan
    from contracts.settings import DataflowSettings
    from dataflows.definitions.repository import Repository

# Feast says of these on every apply that they were created; people never wrote them.
_UNINTERESTING = {"project", "data source"}
_DUMMY_ENTITY = "__dummy"
_FUNCTION = "user_defined_function"


def apply(repo: RepoOption = None) -> None:
    """Compile the repository, tell Feast, and get the stores ready.

    What the dataflow cannot execute is refused by name before anything is changed; functions of
    views are called once, without rows. Then it does what `feast apply` does, and leaves the
    compiled plan in DIR/data/headwater.json. Doing it again without a change changes nothing.
    """
    from contracts.plan_file import plan_path, write_plan
    from contracts.settings import DataflowSettings
    from dataflows.definitions.repository import load_repository

    folder = require_repository(repo)
    settings = DataflowSettings.for_repo(folder)
    repository = load_repository(folder)
    for note in repository.notes:
        typer.echo(f"note: {note}", err=True)
    old = _old_plan(folder)
    changes, services = _feast_apply(folder, repository.plan)
    changes += _model_changes(old, repository.plan)
    _prepare_stores(repository, settings)
    is_new = write_plan(plan_path(folder), repository.plan, services)
    for change in changes:
        typer.echo(change)
    if not changes:
        typer.echo("plan written anew" if is_new else "nothing changed")
    plan = repository.plan
    typer.echo(
        f"applied: project {plan.project}, {len(plan.topics)} topics, {len(plan.views)} views, "
        f"{len(plan.models)} models"
    )


def _old_plan(folder: Path) -> Plan | None:
    from contracts.plan_file import PlanFileError, plan_path, read_plan

    try:
        return read_plan(plan_path(folder)).plan
    except PlanFileError:
        return None


def _model_changes(old: Plan | None, new: Plan) -> list[str]:
    before = {model.name: model for model in old.models} if old is not None else {}
    after = {model.name: model for model in new.models}
    words = [f"created model {name}" for name in after if name not in before]
    words += [f"updated model {n}" for n in after if n in before and before[n] != after[n]]
    return words + [f"deleted model {name}" for name in before if name not in after]


def _prepare_stores(repository: Repository, settings: DataflowSettings) -> None:
    """Make tables and folders, so that readers find nothing yet instead of failing."""
    from dataflows.flow.engine import default_places
    from dataflows.stores.online_writer import open_online_writer

    places = default_places(repository, settings)
    writer = open_online_writer(places.online, repository.store.project)
    try:
        for view in repository.plan.views:
            writer.ensure_table(view)
    finally:
        writer.close()
    for path in (*places.offline.values(), places.examples, places.models):
        path.mkdir(parents=True, exist_ok=True)


def _feast_apply(folder: Path, plan: Plan) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
    """What `feast apply` does; what changed, and the features of every feature service."""
    from feast import FeatureStore, Project, repo_operations
    from feast.repo_config import load_repo_config

    from cli.kept_values import keep_values

    project = plan.project
    with _inside(folder):
        try:
            config = load_repo_config(folder, folder / "feature_store.yaml")
            contents = repo_operations.parse_repo(folder)
            if not contents.projects:
                contents.projects.append(Project(name=project))
            names = [one.name for one in contents.projects]
            if names != [project]:
                raise CommandError(f"Project {names} must be {project!r} of feature_store.yaml")
            _prepare_views(contents.stream_feature_views, folder, plan)
            services = {
                service.name: [
                    (projection.name_to_use(), field.name)
                    for projection in service.feature_view_projections
                    for field in projection.features
                ]
                for service in contents.feature_services
            }
            store = FeatureStore(config=config)
            keep_values(store)
            registry, infrastructure, _ = store.plan(contents)
            changes = _changes(registry.feast_object_diffs, infrastructure.infra_object_diffs)
            if changes:
                repo_operations.apply_total_with_repo_instance(
                    store, project, store.registry, contents, skip_source_validation=True
                )
        except CommandError:
            raise
        except Exception as error:
            raise CommandError(f"Feast refuses it: {type(error).__name__}: {error}") from error
    return [text for text, is_shown in changes if is_shown], services


def _prepare_views(views: list[Any], folder: Path, plan: Plan) -> None:
    """Have Feast store what others can read; raise CommandError for views that nobody would run."""
    from dataflows.definitions.transforms import make_portable

    known = {view.name for view in plan.views}
    for view in views:
        if view.name not in known:
            raise CommandError(
                f"stream feature view {view.name!r} stands in another file than definitions.py; "
                "move it there, or import it there"
            )
        make_portable(view, folder)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Feast names the modules of a repository from the current folder, and talks a lot.

    Bytecode of them is not kept: it counts as up to date after an edit within the same second.
    """
    sys.path.insert(0, str(folder))
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with warnings.catch_warnings(), chdir(folder):
            warnings.simplefilter("ignore")
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                yield
    finally:
        sys.dont_write_bytecode = before
        sys.path.remove(str(folder))


def _changes(objects: list[Any], tables: list[Any]) -> list[tuple[str, bool]]:
    """(what changes in words, whether people want to read it) of Feast's differences."""
    found = []
    for one in objects:
        what = one.transition_type.name.lower()
        if what == "unchanged" or (what == "update" and not _really_differs(one)):
            continue
        kind = one.feast_object_type.value
        is_shown = one.name != _DUMMY_ENTITY and not (what == "create" and kind in _UNINTERESTING)
        found.append((f"{what}d {kind} {one.name}", is_shown))
    for one in tables:
        what = one.transition_type.name.lower()
        if what != "unchanged":
            found.append((f"{what}d {one.infra_object_type} {one.name}", True))
    return found


def _really_differs(one: Any) -> bool:
    """Feast also reports times of sources in views, another order of features, other pickles."""
    from dataflows.definitions.transform_code import byte_code_of

    codes = [
        function and byte_code_of(function)
        for function in (_function(one.current_feast_object), _function(one.new_feast_object))
    ]
    return codes[0] != codes[1] or any(
        _essence(change.val_existing) != _essence(change.val_declared)
        for change in one.feast_object_property_diffs
    )


def _function(feast_object: Any) -> Any:
    """The function of a view of whatever kind; None for what has none."""
    transformation = getattr(feast_object, "feature_transformation", None)
    return getattr(transformation, "udf", None)


def _essence(value: Any) -> Any:
    """A source's message without its times, a list of messages without its order.

    A function's is without its pickle, which differs from process to process.
    """
    if hasattr(value, "DESCRIPTOR"):
        copy = type(value)()
        copy.CopyFrom(value)
        known = copy.DESCRIPTOR.fields_by_name
        if "meta" in known:
            copy.ClearField("meta")
        for function in (copy, getattr(copy, _FUNCTION, copy)):
            if "body" in function.DESCRIPTOR.fields_by_name:
                function.ClearField("body")
        if "batch_source" in known and copy.HasField("batch_source"):
            copy.batch_source.ClearField("meta")
        return copy
    if hasattr(value, "add"):
        return sorted(message.SerializeToString(deterministic=True) for message in value)
    return value
