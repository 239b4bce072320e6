"""Loads a Feast repository and compiles it.

Feast's registry does not keep everything (the order of features, for one), so the plan is made from
the objects in ``definitions.py`` themselves.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import yaml
from feast import Entity, FeatureService, OnDemandFeatureView, StreamFeatureView
from feast.base_feature_view import BaseFeatureView
from feast.errors import FeastModuleImportError

from contracts.model_spec import Model
from contracts.plan import ModelPlan, Plan, Topic, View
from dataflows.definitions import tags
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.models import Defined, compile_model
from dataflows.definitions.on_demand import try_on_sample
from dataflows.definitions.topics import compile_topic
from dataflows.definitions.transforms import TransformFunction
from dataflows.definitions.views import compile_view
from dataflows.learning.stable_river import keep_order_of_names


@dataclass(frozen=True)
class StoreConfig:
    """What ``feature_store.yaml`` says, environment variables filled in."""

    project: str
    online_store: dict[str, Any]


@dataclass(frozen=True)
class Repository:
    """A compiled repository: the plan, and what of it is code.

    Attributes:
        models: the ``Model`` objects, which hold the learners, by name.
        transforms: view name -> the function that is run on the view's rows before all else, in
            the way that ``View.transform`` says; for views that have one.
        notes: what is not refused, but people should know; a line each.
        services: feature service -> its (view, feature) pairs, in order.
        entities: Feast entity -> its join key.
        whole: the plan that ``plan`` is a part of; None if it is all there is. All of its functions
            look at each record: one that fails at it counts for no view.
    """

    directory: Path
    store: StoreConfig
    plan: Plan
    models: dict[str, Model]
    transforms: dict[str, TransformFunction]
    notes: tuple[str, ...]
    services: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    entities: dict[str, str] = field(default_factory=dict)
    whole: Plan | None = None


@dataclass(frozen=True)
class Compiled:
    """The plan of some objects, its views' functions, notes, entities (as in ``Repository``)."""

    plan: Plan
    transforms: dict[str, TransformFunction]
    notes: tuple[str, ...]
    entities: dict[str, str]


def load_repository(directory: Path) -> Repository:
    """Import ``definitions.py`` and compile it; raise DefinitionError."""
    keep_order_of_names()
    store = read_store_config(directory)
    module = _import_definitions(directory)
    objects = list(vars(module).values())
    models = {model.name: model for model in _of_type(objects, Model)}
    compiled = compile_plan(directory, store.project, objects)
    services = {
        service.name: tuple(
            (projection.name_to_use(), one.name)
            for projection in service.feature_view_projections
            for one in projection.features
        )
        for service in _of_type(objects, FeatureService)
    }
    return Repository(
        directory,
        store,
        compiled.plan,
        models,
        compiled.transforms,
        compiled.notes,
        services,
        compiled.entities,
    )


def compile_plan(directory: Path, project: str, objects: Iterable[Any]) -> Compiled:
    """The plan of these Feast objects and models; raise DefinitionError."""
    found = list(objects)
    _check_objects(found)
    entities = {entity.name: entity for entity in _of_type(found, Entity)}
    services = {service.name: service for service in _of_type(found, FeatureService)}
    topics: dict[str, Topic] = {}
    views: dict[str, View] = {}
    transforms: dict[str, TransformFunction] = {}
    notes: list[str] = []
    for feast_view in _of_type(found, StreamFeatureView):
        source = feast_view.stream_source
        if feast_view.source_views:
            # A view of views has no stream of its own; what is refused is the view that it reads.
            source = feast_view.source_views[0]
        topic = _same_topic(topics, compile_topic(source, feast_view.name), feast_view.name)
        compiled = compile_view(feast_view, topic, entities, directory)
        view = compiled.view
        _check_new_view(views, view)
        views[view.name] = view
        if compiled.transform is not None:
            transforms[view.name] = compiled.transform
        if compiled.note:
            notes.append(compiled.note)
    on_demand = {view.name: view for view in _of_type(found, OnDemandFeatureView)}
    defined = Defined(views, on_demand, services)
    models: dict[str, ModelPlan] = {}
    for model in _of_type(found, Model):
        spine = _same_topic(topics, compile_topic(model.spine, model.name), model.name)
        label = None
        if model.label is not None:
            label = compile_topic(model.label.source, model.name)
            label = _same_topic(topics, label, model.name)
        if model.name in models:
            raise DefinitionError(f"model {model.name!r} is defined twice; rename one")
        made = models[model.name] = compile_model(model, spine, label, defined, project)
        notes += try_on_sample(made.schema, f"model {model.name!r}")
    if not views and not models:
        raise DefinitionError("definitions.py has no StreamFeatureView and no Model; add one")
    plan = Plan(
        project=project,
        topics=tuple(topics[name] for name in sorted(topics)),
        views=tuple(views[name] for name in sorted(views)),
        models=tuple(models[name] for name in sorted(models)),
    )
    join_keys = {name: str(entity.join_key) for name, entity in entities.items()}
    return Compiled(plan, transforms, tuple(notes), join_keys)


def read_store_config(directory: Path) -> StoreConfig:
    """Read ``feature_store.yaml``; raise DefinitionError."""
    path = directory / "feature_store.yaml"
    try:
        config = yaml.safe_load(os.path.expandvars(path.read_text()))
    except FileNotFoundError:
        raise DefinitionError(
            f"{path} does not exist; name the folder of the Feast repository with --repo"
        ) from None
    except yaml.YAMLError as error:
        raise DefinitionError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict) or not isinstance(config.get("project"), str):
        raise DefinitionError(f"{path} names no project; add `project: NAME`")
    version = config.get("entity_key_serialization_version", 3)
    if version != 3:
        raise DefinitionError(f"{path}: entity_key_serialization_version must be 3, not {version}")
    registry = config.get("registry")
    if isinstance(registry, dict) and registry.get("enable_online_feature_view_versioning"):
        raise DefinitionError(
            f"{path}: enable_online_feature_view_versioning changes the names of views in the "
            "online store, which cannot be executed; take it out"
        )
    online = config.get("online_store") or {"type": "sqlite"}
    online = {"type": online} if isinstance(online, str) else dict(online)
    return StoreConfig(config["project"], online)


class _SourceOnly(SourceFileLoader):
    """Compiles each time: bytecode counts as up to date after an edit within the same second."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _import_definitions(directory: Path) -> ModuleType:
    path = directory / "definitions.py"
    if not path.is_file():
        raise DefinitionError(f"{path} does not exist; all definitions of a repository stand there")
    name = "headwater_definitions"
    loader = _SourceOnly(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise DefinitionError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    folder = str(directory.resolve())
    if folder not in sys.path:
        # Modules beside definitions.py, such as generated Protobuf classes, can be imported.
        sys.path.append(folder)
    try:
        with warnings.catch_warnings():
            # Feast warns of every stream feature view that it is experimental.
            warnings.simplefilter("ignore", RuntimeWarning)
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        frames = [f for f in traceback.extract_tb(sys.exc_info()[2]) if f.filename == str(path)]
        line = f", line {frames[-1].lineno}" if frames else ""
        told = f"{type(error).__name__}: {error}"
        if isinstance(error, FeastModuleImportError):
            # Feast's decorator has a mode of its own if none is given, which needs Spark.
            told += "; use mode='python' or mode='pandas'"
        raise DefinitionError(f"{path}{line}: {told}") from error
    return module


def _of_type(objects: Iterable[Any], kind: type) -> list[Any]:
    """Distinct objects of that type, in order of definition; two names of one object are one."""
    found: list[Any] = []
    for item in objects:
        if isinstance(item, kind) and not any(item is other for other in found):
            found.append(item)
    return found


def _same_topic(topics: dict[str, Topic], topic: Topic, used_by: str) -> Topic:
    known = topics.setdefault(topic.name, topic)
    if known != topic:
        raise DefinitionError(
            f"topic {topic.name!r} is described in two ways; its KafkaSources must agree in "
            "message_format, timestamp_field, field_mapping, watermark_delay_threshold and the "
            f"tags headwater.*, but that of {used_by!r} differs in {_differences(known, topic)}"
        )
    return known


def _differences(one: Topic, other: Topic) -> str:
    """What of two sources differs, by Feast's names for it."""
    names = {
        "format": "message_format",
        "schema": "message_format",
        "columns": "message_format",
        "timestamp_field": "timestamp_field",
        "field_mapping": "field_mapping",
        "watermark_delay_us": "watermark_delay_threshold",
        "key_field": tags.KEY,
        "framing": tags.FRAMING,
    }
    odd = [name for key, name in names.items() if getattr(one, key) != getattr(other, key)]
    return ", ".join(dict.fromkeys(odd))


def _check_objects(objects: list[Any]) -> None:
    """Raise DefinitionError if two things go by one name, or a tag of ours stands at one of them.

    Feast tells views of all kinds apart by their names, whatever their case.
    """
    for kind, what in ((BaseFeatureView, "view"), (Entity, "entity"), (FeatureService, "service")):
        names = Counter(one.name.lower() for one in _of_type(objects, kind))
        for name, count in names.items():
            if count > 1:
                raise DefinitionError(f"{what} {name!r} is defined twice; rename one")
    for entity in _of_type(objects, Entity):
        tags.check_tags(entity.tags, tags.OF_OTHERS, f"entity {entity.name!r}")


def _check_new_view(views: dict[str, View], view: View) -> None:
    for other in views.values():
        if view.offline_path and other.offline_path == view.offline_path:
            raise DefinitionError(
                f"stream feature views {other.name!r} and {view.name!r} share the batch_source "
                f"path {view.offline_path!r}; each needs a folder of its own"
            )
