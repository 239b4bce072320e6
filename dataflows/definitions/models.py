"""A ``Model`` as a plan: its vector in order, its spine and its label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from feast import FeatureService

from contracts.feature_schema import FeatureSchema, ValueType, VectorField
from contracts.model_spec import Model
from contracts.plan import ColumnType, ModelPlan, Topic, View
from dataflows.definitions import tags
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.topics import LONGEST, columns_of
from dataflows.learning.export import UnsupportedEstimatorError, check_exportable
from dataflows.learning.label_expression import LabelExpressionError, compile_label

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MICROSECOND = timedelta(microseconds=1)
_NUMBERS: dict[ColumnType, ValueType] = {"float64": "float64", "int64": "int64", "bool": "bool"}


def compile_model(
    model: Model,
    spine: Topic,
    label: Topic,
    views: Mapping[str, View],
    services: Mapping[str, FeatureService],
    project: str,
) -> ModelPlan:
    """The executable form of a model; raise DefinitionError naming the model."""
    where = f"model {model.name!r}"
    if not _NAME.fullmatch(model.name):
        raise DefinitionError(f"{where}: use lower case letters, digits and underscores")
    for time in (model.label.timeout, model.publish_every):
        if not timedelta(0) < time <= LONGEST:
            raise DefinitionError(
                f"{where}: label timeout and publish_every must be positive and shorter than all "
                f"of time, not {time}"
            )
    _check_key(spine, model.spine_key, f"{where}: spine_key")
    _check_key(label, model.label.key, f"{where}: label key")
    _check_label(model, label, where)
    _check_learner(model, where)
    fields = _request_fields(model, spine, where) + _feature_fields(
        model, spine, views, services, where
    )
    if not fields:
        raise DefinitionError(f"{where} has neither features nor request fields")
    unknown = sorted(set(model.defaults) - {field.name for field in fields})
    if unknown:
        raise DefinitionError(f"{where}: defaults name {unknown[0]!r}, which is not in its vector")
    return ModelPlan(
        name=model.name,
        spine_topic=spine.name,
        spine_key=model.spine_key,
        label_topic=label.name,
        label_key=model.label.key,
        label_value=model.label.value,
        label_timeout_us=model.label.timeout // _MICROSECOND,
        publish_every_us=model.publish_every // _MICROSECOND,
        views=tuple(dict.fromkeys(field.view for field in fields if field.view)),
        schema=FeatureSchema(project, tuple(fields)),
    )


def _check_key(topic: Topic, name: str, where: str) -> None:
    columns = columns_of(topic)
    if name not in columns or columns[name].dtype != "string" or columns[name].nullable:
        raise DefinitionError(
            f"{where} {name!r} must be a column `{name} string not null` of topic {topic.name!r}"
        )


def _check_label(model: Model, topic: Topic, where: str) -> None:
    numbers = [name for name, column in columns_of(topic).items() if column.dtype in _NUMBERS]
    try:
        compile_label(model.label.value, numbers)
    except LabelExpressionError as error:
        raise DefinitionError(f"{where}: {error}") from error


def _check_learner(model: Model, where: str) -> None:
    try:
        check_exportable(model.learner())
    except UnsupportedEstimatorError as error:
        raise DefinitionError(f"{where}: {error}") from error


def _request_fields(model: Model, spine: Topic, where: str) -> list[VectorField]:
    columns = columns_of(spine)
    fields = []
    for name in model.request:
        if name not in columns or columns[name].dtype not in _NUMBERS:
            raise DefinitionError(
                f"{where}: request field {name!r} is not a number or boolean of topic "
                f"{spine.name!r}"
            )
        dtype = _NUMBERS[columns[name].dtype]
        fields.append(VectorField(name, "request", dtype, model.defaults.get(name, 0.0)))
    if len({field.name for field in fields}) < len(fields):
        raise DefinitionError(f"{where}: a request field stands twice")
    return fields


def _feature_fields(
    model: Model,
    spine: Topic,
    views: Mapping[str, View],
    services: Mapping[str, FeatureService],
    where: str,
) -> list[VectorField]:
    if model.features is None:
        return []
    if model.features not in services:
        raise DefinitionError(f"{where}: feature service {model.features!r} is not defined")
    service = services[model.features]
    _check_service(service, where)
    fields: list[VectorField] = []
    for projection in service.feature_view_projections:
        if projection.name not in views:
            raise DefinitionError(
                f"{where}: feature service {model.features!r} has {projection.name!r}, which is "
                "not a stream feature view of definitions.py; only those can be executed"
            )
        if projection.name_alias or projection.join_key_map:
            raise DefinitionError(
                f"{where}: with_name and with_join_key_map cannot be executed "
                f"({projection.name!r} in {model.features!r})"
            )
        view = views[projection.name]
        _check_join_keys(view, spine, where)
        fields += [_feature_field(view, field.name, model, where) for field in projection.features]
    if len({field.name for field in fields}) < len(fields):
        raise DefinitionError(f"{where}: a feature stands twice in {model.features!r}")
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
    dtype = {a.feature: a.dtype for a in view.aggregates}[feature]
    if dtype == "string":
        raise DefinitionError(
            f"{where}: feature {name!r} is a String, and a vector holds numbers; name the others "
            f"in the service, as in {view.name}[['...']]"
        )
    return VectorField(
        name,
        "feature",
        dtype,
        model.defaults.get(name, 0.0),
        view=view.name,
        feature=feature,
        join_keys=view.join_keys,
        join_key_types=view.join_key_types,
        ttl_seconds=view.ttl_us / 1e6,
    )


def _check_join_keys(view: View, spine: Topic, where: str) -> None:
    columns = columns_of(spine)
    for key, kind in zip(view.join_keys, view.join_key_types, strict=True):
        if key not in columns or columns[key].dtype != kind:
            raise DefinitionError(
                f"{where}: its spine {spine.name!r} has no {kind} column {key!r}, the join key of "
                f"{view.name!r}"
            )
