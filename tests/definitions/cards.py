"""Payments of cards: a source, a view and a model, of which each test changes one thing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import (
    Entity,
    FeatureService,
    Field,
    FileSource,
    KafkaSource,
    StreamFeatureView,
    ValueType,
)
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, String
from river import linear_model

from contracts.model_spec import Label, Model
from contracts.plan import Plan, View
from dataflows.definitions.repository import compile_plan

HOUR = timedelta(hours=1)
CARD = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)
COLUMNS = (
    "card string not null, at timestamp not null, amount double, items bigint, shop string, "
    "abroad boolean, opened timestamp, payment string not null"
)


def files(**more: Any) -> FileSource:
    """Where the rows of a view are kept."""
    given: dict[str, Any] = {"path": "data/cards", "timestamp_field": "event_timestamp", **more}
    return FileSource(name="payments_files", **given)


def source(**more: Any) -> KafkaSource:
    """Payments."""
    given: dict[str, Any] = {
        "name": "payments",
        "topic": "payments",
        "kafka_bootstrap_servers": "",
        "timestamp_field": "at",
        "message_format": JsonFormat(COLUMNS),
        "batch_source": files(),
        **more,
    }
    return KafkaSource(**given)


def view(**more: Any) -> StreamFeatureView:
    """The sum of a card's payments of the last hour, or what ``more`` makes of it."""
    given: dict[str, Any] = {
        "name": "cards",
        "entities": [CARD],
        "source": more.pop("source", None) or source(),
        "mode": "python",
        "timestamp_field": "at",
        "aggregations": [Aggregation("amount", "sum", HOUR, name="spent")],
        "schema": [Field(name="card", dtype=String), Field(name="spent", dtype=Float64)],
        **more,
    }
    return StreamFeatureView(**given)


def one_feature(
    aggregation: Aggregation, dtype: Any, field: dict[str, Any] | None = None, **more: Any
) -> StreamFeatureView:
    """A view of one feature, called as its aggregation is."""
    name = aggregation.resolved_name(aggregation.time_window)
    return view(
        aggregations=[aggregation],
        schema=[Field(name="card", dtype=String), Field(name=name, dtype=dtype, **(field or {}))],
        **more,
    )


def service(*features: Any, **more: Any) -> FeatureService:
    """The feature service that ``model`` reads."""
    return FeatureService(name="features", features=list(features), **more)


def model(**more: Any) -> Model:
    """A model that predicts at each payment whether it is abroad."""
    payments = source()
    given: dict[str, Any] = {
        "name": "abroad",
        "spine": payments,
        "spine_key": "payment",
        "label": Label(payments, key="payment", value="abroad", timeout=HOUR),
        "learner": linear_model.LogisticRegression,
        "features": "features",
        **more,
    }
    return Model(**given)


def plan_of(*objects: Any) -> Plan:
    """The plan of a repository of cards with these objects."""
    return compile_plan(Path("/repository"), "cards", [CARD, *objects]).plan


def compiled(feast_view: StreamFeatureView) -> View:
    """A view as the engine runs it."""
    (found,) = plan_of(feast_view).views
    return found
