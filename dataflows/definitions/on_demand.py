"""An ``OnDemandFeatureView`` of Feast that a model uses: its function, inputs and fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from feast import Field, OnDemandFeatureView
from feast.feature_view_projection import FeatureViewProjection
from feast.types import Bool, Float64, Int64, String

from contracts.feature_schema import FeatureSchema, OnDemandView, ValueType, VectorField
from contracts.on_demand import BrokenCodeError, OnDemandViews
from contracts.plan import Topic, View
from dataflows.definitions import tags
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.function_text import module_of
from dataflows.definitions.topics import columns_of

_NUMBERS: Final[Mapping[Any, ValueType]] = {Float64: "float64", Int64: "int64", Bool: "bool"}
_TYPES: Final[Mapping[Any, ValueType]] = {**_NUMBERS, String: "string"}
_NAMES: Final = ", ".join(str(dtype) for dtype in _NUMBERS)


@dataclass(frozen=True)
class CompiledOnDemand:
    """An on-demand view as a model's spine feeds it.

    Attributes:
        view: what is run.
        outputs: feature -> its type.
        inputs: the fields of ``view.inputs``, with 0 for defaults.
    """

    view: OnDemandView
    outputs: Mapping[str, ValueType]
    inputs: tuple[VectorField, ...]


def compile_on_demand(
    view: OnDemandFeatureView,
    projection: FeatureViewProjection,
    spine: Topic,
    views: Mapping[str, View],
    where: str,
) -> CompiledOnDemand:
    """The executable form of an on-demand view.

    Args:
        view: as it is defined.
        projection: what a feature service takes of it.
        spine: whose columns the request fields are.
        views: the stream feature views, by name.
        where: the model, for messages.

    Raises:
        DefinitionError: it cannot be executed; the text names model and view.
    """
    here = f"{where}: on-demand view {view.name!r}"
    _refuse_unsupported(view, here)
    inputs = (*_features(view, views, here), *_requests(view, spine, here))
    outputs = {one.name: _output_type(one, here) for one in projection.features}
    _check_names(inputs, [one.name for one in view.features], here)
    transformation: Any = view.feature_transformation
    function, code = module_of(transformation.udf, here)
    takes: Any = "row" if view.singleton else "columns"
    names = tuple(field.name for field in inputs)
    compiled = OnDemandView(view.name, function, code, takes, names)
    return CompiledOnDemand(compiled, outputs, inputs)


def stored_field(view: View, feature: str, default: float) -> VectorField:
    """A feature of a stream feature view as a field."""
    return VectorField(
        f"{view.name}:{feature}",
        "feature",
        {one.feature: one.dtype for one in view.aggregates}[feature],
        default,
        view=view.name,
        feature=feature,
        join_keys=view.join_keys,
        join_key_types=view.join_key_types,
        ttl_seconds=view.ttl_us / 1e6,
    )


def schema_of(
    project: str, fields: Sequence[VectorField], on_demand: Sequence[CompiledOnDemand]
) -> FeatureSchema:
    """The schema of a vector and of what its on-demand views need besides."""
    known = {field.name for field in fields}
    needed = {field.name: field for one in on_demand for field in one.inputs}
    hidden = tuple(field for name, field in needed.items() if name not in known)
    return FeatureSchema(project, tuple(fields), hidden, tuple(one.view for one in on_demand))


def try_on_sample(schema: FeatureSchema, where: str) -> list[str]:
    """Run the functions on one row as Feast makes it up, and on one without values.

    Returns:
        What people should know: which of them fail at nulls.

    Raises:
        DefinitionError: one fails at the made up row, or cannot be loaded.
    """
    if not schema.on_demand:
        return []
    try:
        functions = OnDemandViews(schema)
    except BrokenCodeError as error:
        raise DefinitionError(f"{where}: {error}") from error
    texts = functions.text_inputs
    values = np.ones((1, len(schema.places)))
    for failure in functions.fill(values, {name: ["hello world"] for name in texts}).values():
        told = f"{failure} {failure.detail}".strip()
        raise DefinitionError(
            f"{where}: {told}, called with one row of 1.0, 1, True and 'hello world', as Feast does"
        )
    return [
        f"{where}: {failure}, called with one row of nulls; the scorer refuses rows at which it "
        "fails, and the dataflow sets them aside as dead letters"
        for failure in _failures_at_nulls(schema)
    ]


def _failures_at_nulls(schema: FeatureSchema) -> Iterator[str]:
    for view in schema.on_demand:
        alone = replace(schema, on_demand=(view,))
        functions = OnDemandViews(alone)
        nulls = np.full((1, len(schema.places)), np.nan)
        failed = functions.fill(nulls, {name: [None] for name in functions.text_inputs})
        yield from map(str, failed.values())


def _refuse_unsupported(view: OnDemandFeatureView, here: str) -> None:
    tags.check_tags(view.tags, tags.OF_OTHERS, here)
    mode: Any = getattr(view.feature_transformation, "mode", view.mode)
    for wanted in (view.mode, getattr(mode, "value", mode)):
        if wanted != "python":
            raise DefinitionError(f"{here}: mode {wanted!r} cannot be executed; use mode='python'")
    refused = {
        "aggregations": bool(view.aggregations),
        "write_to_online_store": view.write_to_online_store,
        "input_schema": view.input_schema is not None,
        "enabled=False": not view.enabled,
        f"version {view.version!r}": view.version.lower() != "latest",
    }
    for what, is_there in refused.items():
        if is_there:
            hint = "; use a RequestSource" if what == "input_schema" else "; leave it out"
            raise DefinitionError(f"{here}: {what} cannot be executed{hint}")
    if view.feature_transformation is None:
        raise DefinitionError(f"{here} has no function; decorate one with @on_demand_feature_view")


def _features(
    view: OnDemandFeatureView, views: Mapping[str, View], here: str
) -> Iterator[VectorField]:
    for projection in view.source_feature_view_projections.values():
        name = projection.name
        if name not in views:
            raise DefinitionError(
                f"{here} takes features of {name!r}, which is not a stream feature view of "
                "definitions.py; only those can be executed"
            )
        if projection.name_alias or projection.join_key_map:
            raise DefinitionError(
                f"{here}: with_name and with_join_key_map cannot be executed ({name!r})"
            )
        for feature in projection.features:
            field = stored_field(views[name], feature.name, 0.0)
            if field.dtype == "string":
                raise DefinitionError(
                    f"{here} takes {field.name!r}, a String, which cannot be executed; name the "
                    f"other features in its sources, as in {name}[['...']]"
                )
            yield field


def _requests(view: OnDemandFeatureView, spine: Topic, here: str) -> Iterator[VectorField]:
    columns = columns_of(spine)
    for source in view.source_request_sources.values():
        tags.check_tags(source.tags, tags.OF_OTHERS, f"{here}, RequestSource {source.name!r}")
        for field in source.schema:
            kind = _TYPES.get(field.dtype)
            if kind is None:
                raise DefinitionError(
                    f"{here}: request field {field.name!r} is {field.dtype}, which cannot be "
                    f"executed; use {_NAMES} or String"
                )
            if field.name not in columns or columns[field.name].dtype != kind:
                raise DefinitionError(
                    f"{here}: its request field {field.name!r} must be a {kind} column of the "
                    f"spine {spine.name!r}"
                )
            yield VectorField(field.name, "request", kind, 0.0)


def _output_type(field: Field, here: str) -> ValueType:
    tags.check_tags(field.tags, tags.OF_OTHERS, f"{here}, feature {field.name!r}")
    if field.dtype not in _NUMBERS:
        raise DefinitionError(
            f"{here}: feature {field.name!r} is {field.dtype}, and a vector holds {_NAMES}; "
            "change its type, or name the others in the service"
        )
    return _NUMBERS[field.dtype]


def _check_names(inputs: Sequence[VectorField], outputs: Sequence[str], here: str) -> None:
    """Raise DefinitionError if the function could not tell two things apart by their names."""
    seen: set[str] = set()
    for name in (*(one.feature or one.name for one in inputs), *outputs):
        if name in seen:
            raise DefinitionError(
                f"{here}: two of its inputs and features are called {name!r}; rename one"
            )
        seen.add(name)
