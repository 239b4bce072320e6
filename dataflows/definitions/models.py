"""A ``Model`` as a plan: its vector in order, its spine and its label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from feast import FeatureService, OnDemandFeatureView
from feast.feature_view_projection import FeatureViewProjection

from contracts.category import category_code
from contracts.feature_schema import FeatureSchema, ValueType, VectorField
from contracts.model_spec import Model, Task
from contracts.plan import ColumnType, ModelPlan, Topic, View
from dataflows.definitions import tags
from dataflows.definitions.drift import compile_drift
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.on_demand import (
    CompiledOnDemand,
    compile_on_demand,
    schema_of,
    stored_field,
)
from dataflows.definitions.tasks import (
    assigned_by,
    check_label,
    compile_rollout,
    given_label,
    segments_of,
    task_of,
)
from dataflows.definitions.topics import LONGEST, columns_of
from dataflows.river_onnx import Role, UnsupportedEstimatorError, check_exportable, to_onnx

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MICROSECOND = timedelta(microseconds=1)
_TYPES: dict[ColumnType, ValueType] = {
    "float64": "float64",
    "int64": "int64",
    "bool": "bool",
    "string": "string",
}


@dataclass(frozen=True)
class Defined:
    """What models can read, by name: views that the engine runs, on-demand views, and services."""

    views: Mapping[str, View]
    on_demand: Mapping[str, OnDemandFeatureView]
    services: Mapping[str, FeatureService]


def compile_model(
    model: Model, spine: Topic, label: Topic | None, defined: Defined, project: str
) -> ModelPlan:
    """The executable form of a model; raise DefinitionError naming the model."""
    where = f"model {model.name!r}"
    if not _NAME.fullmatch(model.name):
        raise DefinitionError(f"{where}: use lower case letters, digits and underscores")
    timeout = model.label.timeout if model.label else model.publish_every
    for time in (timeout, model.publish_every):
        if not timedelta(0) < time <= LONGEST:
            raise DefinitionError(
                f"{where}: label timeout and publish_every must be positive and shorter than all "
                f"of time, not {time}"
            )
    _check_key(spine, model.spine_key, f"{where}: spine_key")
    role = _role(model, where)
    task = task_of(model, role, label, where)
    if label is not None and model.label is not None:
        _check_key(label, model.label.key, f"{where}: label key")
        check_label(model.label, task, label, where)
    fields = _request_fields(model, spine, where)
    more, on_demand = _feature_fields(model, spine, defined, where)
    fields += more
    if not fields:
        raise DefinitionError(f"{where} has neither features nor request fields")
    unknown = sorted(set(model.defaults) - {field.name for field in fields})
    if unknown:
        raise DefinitionError(f"{where}: defaults name {unknown[0]!r}, which is not in its vector")
    schema = schema_of(project, fields, on_demand)
    _check_export(model, schema, task, where)
    stored = [field.view for field in schema.places if field.kind == "feature"]
    return ModelPlan(
        name=model.name,
        spine_topic=spine.name,
        spine_key=model.spine_key,
        label_topic=label.name if label else "",
        label_key=model.label.key if model.label else "",
        label_value=model.label.value if model.label else "",
        label_timeout_us=timeout // _MICROSECOND,
        publish_every_us=model.publish_every // _MICROSECOND,
        views=tuple(dict.fromkeys(stored)),
        schema=schema,
        task=task,
        on_timeout=given_label(model.label, task, where),
        segments=segments_of(model, spine, schema, where),
        assign_by=assigned_by(model, schema, where),
        rollout=compile_rollout(model.rollout, task, where),
        intended_use=model.intended_use,
        drift=compile_drift(model.drift, where),
    )


def _check_key(topic: Topic, name: str, where: str) -> None:
    columns = columns_of(topic)
    if name not in columns or columns[name].dtype != "string" or columns[name].nullable:
        raise DefinitionError(
            f"{where} {name!r} must be a column `{name} string not null` of topic {topic.name!r}"
        )


def _role(model: Model, where: str) -> Role:
    try:
        return check_exportable(model.learner())
    except UnsupportedEstimatorError as error:
        raise DefinitionError(f"{where}: {error}") from error


def _check_export(model: Model, schema: FeatureSchema, task: Task, where: str) -> None:
    """Raise DefinitionError if the learner asks for columns that the vector does not have."""
    try:
        to_onnx(model.learner(), schema.names, ("",) if task == "multiclass" else None)
    except UnsupportedEstimatorError as error:
        raise DefinitionError(
            f"{where}: {error}; its vector has {', '.join(schema.names)}"
        ) from error


def _default(model: Model, name: str, dtype: ValueType, where: str) -> float:
    """What stands in for a missing value, as the vector has it."""
    wanted = model.defaults.get(name, 0.0)
    if isinstance(wanted, str):
        if dtype != "string":
            raise DefinitionError(
                f"{where}: the default of {name!r} is a text; it must be a number"
            )
        return category_code(wanted)
    if dtype == "string" and name in model.defaults:
        raise DefinitionError(f"{where}: the default of {name!r} must be a text")
    return wanted


def _request_fields(model: Model, spine: Topic, where: str) -> list[VectorField]:
    columns = columns_of(spine)
    fields = []
    for name in model.request:
        if name not in columns or columns[name].dtype not in _TYPES:
            raise DefinitionError(
                f"{where}: request field {name!r} is not a number, boolean or string of topic "
                f"{spine.name!r}"
            )
        dtype = _TYPES[columns[name].dtype]
        fields.append(VectorField(name, "request", dtype, _default(model, name, dtype, where)))
    if len({field.name for field in fields}) < len(fields):
        raise DefinitionError(f"{where}: a request field stands twice")
    return fields


def _feature_fields(
    model: Model, spine: Topic, defined: Defined, where: str
) -> tuple[list[VectorField], list[CompiledOnDemand]]:
    if model.features is None:
        return [], []
    if model.features not in defined.services:
        raise DefinitionError(f"{where}: feature service {model.features!r} is not defined")
    service = defined.services[model.features]
    _check_service(service, where)
    fields: list[VectorField] = []
    on_demand: list[CompiledOnDemand] = []
    for projection in service.feature_view_projections:
        _check_projection(projection, model, where)
        if projection.name in defined.on_demand:
            view = defined.on_demand[projection.name]
            compiled = compile_on_demand(view, projection, spine, defined.views, where)
            fields += _derived_fields(compiled, model, where)
            on_demand.append(compiled)
            names = [field.view for field in compiled.inputs if field.view]
        elif projection.name in defined.views:
            found = defined.views[projection.name]
            fields += [_feature_field(found, one.name, model, where) for one in projection.features]
            names = [projection.name]
        else:
            raise DefinitionError(
                f"{where}: feature service {model.features!r} has {projection.name!r}, which is "
                "not a stream feature view or on-demand view of definitions.py; only those can be "
                "executed"
            )
        for name in names:
            _check_join_keys(defined.views[name], spine, where)
    if len({field.name for field in fields}) < len(fields):
        raise DefinitionError(f"{where}: a feature stands twice in {model.features!r}")
    return fields, on_demand


def _check_projection(projection: FeatureViewProjection, model: Model, where: str) -> None:
    if projection.name_alias or projection.join_key_map:
        raise DefinitionError(
            f"{where}: with_name and with_join_key_map cannot be executed "
            f"({projection.name!r} in {model.features!r})"
        )


def _derived_fields(compiled: CompiledOnDemand, model: Model, where: str) -> list[VectorField]:
    view = compiled.view.name
    fields = []
    for feature, kind in compiled.outputs.items():
        name = f"{view}:{feature}"
        default = _default(model, name, kind, where)
        fields.append(VectorField(name, "derived", kind, default, view, feature))
    return fields


def _check_service(service: FeatureService, where: str) -> None:
    """Raise DefinitionError for what Feast's own server would do with the service."""
    here = f"{where}: feature service {service.name!r}"
    tags.check_tags(service.tags, tags.OF_OTHERS, here)
    if service.logging_config is not None:
        raise DefinitionError(
            f"{here} has a logging_config, which cannot be executed; leave it out, the scorer logs "
            "every prediction with its features"
        )
    if service.precompute_online:
        raise DefinitionError(f"{here}: precompute_online cannot be executed; leave it out")


def _feature_field(view: View, feature: str, model: Model, where: str) -> VectorField:
    name = f"{view.name}:{feature}"
    field = stored_field(view, feature, 0.0)
    return replace(field, default=_default(model, name, field.dtype, where))


def _check_join_keys(view: View, spine: Topic, where: str) -> None:
    columns = columns_of(spine)
    for key, kind in zip(view.join_keys, view.join_key_types, strict=True):
        if key not in columns or columns[key].dtype != kind:
            raise DefinitionError(
                f"{where}: its spine {spine.name!r} has no {kind} column {key!r}, the join key of "
                f"{view.name!r}"
            )
