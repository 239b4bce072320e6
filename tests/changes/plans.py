"""Random plans, and each single way in which one can change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from contracts.feature_schema import FeatureSchema, OnDemandView, VectorField
from contracts.plan import (
    Aggregate,
    Column,
    DriftPlan,
    ModelPlan,
    Plan,
    RolloutPlan,
    Topic,
    TransformMode,
    View,
)
from dataflows.changes.made_of import MadeOf

HOUR_US = 3_600_000_000
Mutation = Callable[[Any], Any]


@st.composite
def definitions(draw: st.DrawFn) -> MadeOf:
    """Some topics, views of them, and models that read some of the views."""
    topics = (*(_topic(f"t{i}") for i in range(draw(st.integers(1, 3)))), _topic("t9"))
    windows = st.lists(st.sampled_from([0, HOUR_US, 24 * HOUR_US]), min_size=2, max_size=3)
    views = tuple(
        _view(f"v{i}", draw(st.sampled_from(topics[:-1])).name, draw(windows), draw(st.booleans()))
        for i in range(draw(st.integers(1, 7)))
    )
    models = tuple(
        _model(f"m{i}", draw(st.sampled_from(topics[:-1])).name, read)
        for i, read in enumerate(
            draw(st.lists(st.lists(st.sampled_from(views), unique=True, max_size=3), max_size=4))
        )
    )
    plan = Plan("shop", topics, views, models)
    code = {view.name: f"code of {view.name}" for view in views if view.transform != "none"}
    learners = {model.name: "LogisticRegression()" for model in models}
    return MadeOf(plan, code, learners, {"all": tuple((view.name, "a0") for view in views)})


def _topic(name: str) -> Topic:
    columns = (Column("key", "string", False), Column("x", "float64", True))
    return Topic(name, columns, "at", 0, "key")


def _view(name: str, topic: str, windows: list[int], has_function: object) -> View:
    aggregates = tuple(
        Aggregate(f"a{i}", "float64", "x", "sum", window, window and HOUR_US // 4)
        for i, window in enumerate(windows)
    )
    mode: TransformMode = "python" if has_function else "none"
    path = f"data/{name}"
    return View(name, topic, ("key",), ("string",), aggregates, 0, path, transform=mode)


def _model(name: str, topic: str, read: list[View]) -> ModelPlan:
    fields = [
        VectorField("x", "request", "float64", 0.0),
        VectorField("y", "request", "int64", 1.0),
    ]
    for view in read:
        for one in view.aggregates:
            stored = f"{view.name}:{one.feature}"
            fields.append(
                VectorField(stored, "feature", one.dtype, 0.0, view.name, one.feature,
                            view.join_keys, view.join_key_types)
            )  # fmt: skip
    on_demand = (OnDemandView("od", "made", "def made(x): ...", "columns", ("x",)),)
    schema = FeatureSchema("shop", tuple(fields), (), on_demand)
    views = tuple(view.name for view in read)
    return ModelPlan(name, topic, "key", topic, "key", "x > 0", HOUR_US, HOUR_US, views, schema)


def one_of_each() -> tuple[Topic, View, ModelPlan]:
    """A topic, a view of it, and a model that reads the view."""
    view = _view("v0", "t0", [HOUR_US, 0], has_function=False)
    return _topic("t0"), view, _model("m0", "t0", [view])


_COLUMN = Column("z", "int64", True)
_FEATURE = Aggregate("z", "int64", "x", "count", HOUR_US, HOUR_US)
_ROLLOUT = RolloutPlan((0.1,), 100, 0.0, 0.01, HOUR_US)
_DRIFT = DriftPlan(10, 100, 0, 0.2, None, None, None, None, 0.01, None)

# What may happen to a topic, and a part of the words for it.
OF_TOPICS: dict[str, Mutation] = {
    "new column z": lambda t: replace(t, columns=(*t.columns, _COLUMN)),
    "column x is gone": lambda t: replace(t, columns=t.columns[:1]),
    "column x: float64 -> string": lambda t: replace(
        t, columns=(t.columns[0], Column("x", "string", True))
    ),
    "columns in another order": lambda t: replace(t, columns=t.columns[::-1]),
    "float64 -> float64 not null": lambda t: replace(
        t, columns=(t.columns[0], Column("x", "float64", False))
    ),
    "timestamp field: at -> then": lambda t: replace(t, timestamp_field="then"),
    "watermark delay: 0 s -> 1 h": lambda t: replace(t, watermark_delay_us=HOUR_US),
    "key field: key -> x": lambda t: replace(t, key_field="x"),
    "format: json -> avro": lambda t: replace(t, format="avro"),
    "schema of its records": lambda t: replace(t, schema="{}"),
    "framing: none -> schema-registry": lambda t: replace(t, framing="schema-registry"),
    "field mapping: none -> x as amount": lambda t: replace(t, field_mapping=(("x", "amount"),)),
}


def _first(view: View, **changes: Any) -> View:
    return replace(view, aggregates=(replace(view.aggregates[0], **changes), *view.aggregates[1:]))


OF_VIEWS: dict[str, Mutation] = {
    "topic: ": lambda v: replace(v, topic="t9"),
    "entity key: key string -> other string": lambda v: replace(v, join_keys=("other",)),
    "entity key: key string -> key int64": lambda v: replace(v, join_key_types=("int64",)),
    "new feature z (count of x": lambda v: replace(v, aggregates=(*v.aggregates, _FEATURE)),
    "feature a0 is gone": lambda v: replace(v, aggregates=v.aggregates[1:]),
    "features in another order": lambda v: replace(v, aggregates=v.aggregates[::-1]),
    "over 2 d by": lambda v: _first(v, window_us=48 * HOUR_US, hop_us=HOUR_US),
    "over 3 h as": lambda v: _first(v, window_us=3 * HOUR_US, hop_us=1),
    "by 7 min": lambda v: _first(v, window_us=HOUR_US, hop_us=7 * 60_000_000),
    "-> max of x": lambda v: _first(v, function="max"),
    "-> sum of key": lambda v: _first(v, column="key"),
    "x int64": lambda v: _first(v, column_type="int64"),
    "as int64": lambda v: _first(v, dtype="int64"),
    "ttl: none -> 1 h": lambda v: replace(v, ttl_us=HOUR_US),
    "offline rows: data/": lambda v: replace(v, offline_path=""),
    "windows: hopping -> exact": lambda v: replace(v, exact_tiles_max=1024),
    "distinct bits: 8 -> 12": lambda v: replace(v, distinct_bits=12),
    "mode of its function: ": lambda v: replace(v, transform="pandas"),
}


def _fields(model: ModelPlan, fields: tuple[VectorField, ...]) -> ModelPlan:
    return replace(model, schema=replace(model.schema, fields=fields))


def _on_demand(model: ModelPlan, **changes: Any) -> ModelPlan:
    view = replace(model.schema.on_demand[0], **changes)
    return replace(model, schema=replace(model.schema, on_demand=(view,)))


def _field(model: ModelPlan, **changes: Any) -> ModelPlan:
    fields = model.schema.fields
    return _fields(model, (replace(fields[0], **changes), *fields[1:]))


OF_MODELS: dict[str, Mutation] = {
    "spine: ": lambda m: replace(m, spine_topic="t9"),
    "spine key: key -> x": lambda m: replace(m, spine_key="x"),
    "label's topic: ": lambda m: replace(m, label_topic="t9"),
    "label's key: key -> x": lambda m: replace(m, label_key="x"),
    "label: x > 0 -> x > 1": lambda m: replace(m, label_value="x > 1"),
    "label's timeout: 1 h -> 2 h": lambda m: replace(m, label_timeout_us=2 * HOUR_US),
    "label after the timeout: none -> False": lambda m: replace(m, on_timeout="False"),
    "publish_every: 1 h -> 1 d": lambda m: replace(m, publish_every_us=24 * HOUR_US),
    "task: binary -> regression": lambda m: replace(m, task="regression"),
    "segments: none -> key": lambda m: replace(m, segments=("key",)),
    "assign_by: none -> key": lambda m: replace(m, assign_by="key"),
    "new vector field z": lambda m: _fields(
        m, (*m.schema.fields, VectorField("z", "request", "float64", 0.0))
    ),
    "vector field x is gone": lambda m: _fields(m, m.schema.fields[1:]),
    "vector fields in another order": lambda m: _fields(m, m.schema.fields[::-1]),
    "vector field x: request float64": lambda m: _field(m, dtype="int64"),
    "default 0.5": lambda m: _field(m, default=0.5),
    "its vector changed": lambda m: _fields(
        m, tuple(replace(f, default=f.default * (1 + 1e-12)) for f in m.schema.fields)
    ),
    "ttl 60 s": lambda m: _field(m, ttl_seconds=60.0),
    "new hidden input h": lambda m: replace(
        m, schema=replace(m.schema, hidden=(VectorField("h", "request", "string", 0.0),))
    ),
    "on-demand view od: code": lambda m: _on_demand(m, code="def made(y): ..."),
    "-> made of x, by row": lambda m: _on_demand(m, takes="row"),
}
# Of models too, but in no state.
WITHOUT_REPLAY: dict[str, Mutation] = {
    "rollout changed": lambda m: replace(m, rollout=_ROLLOUT),
    "drift changed": lambda m: replace(m, drift=_DRIFT),
    "intended_use changed": lambda m: replace(m, intended_use="to learn"),
}


def with_one(found: tuple[Any, ...], name: str, mutation: Mutation) -> tuple[Any, ...]:
    """The same with one of them changed."""
    return tuple(mutation(one) if one.name == name else one for one in found)
