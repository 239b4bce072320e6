"""Fields that views and models call otherwise than the records do."""

from __future__ import annotations

from typing import Any

import pytest
from feast import Entity, Field, ValueType
from feast.aggregation import Aggregation
from feast.data_format import AvroFormat
from feast.types import Float64, String

from contracts.model_spec import Label
from contracts.plan import Topic
from dataflows.definitions.topics import columns_of, compile_topic
from tests.definitions.cards import HOUR, model, plan_of, service, source, view

pytestmark = pytest.mark.filterwarnings("ignore:Stream feature views are experimental")

MAPPING = {
    "card": "account",
    "at": "moment",
    "amount": "value",
    "payment": "number",
    "abroad": "far",
}


def _topic(mapping: dict[str, str], **more: Any) -> Topic:
    return compile_topic(source(field_mapping=mapping, **more), "view")


def test_views_and_models_use_the_new_names() -> None:
    """Keys, columns, request fields and labels go by the new names; the topic keeps the old."""
    mapped = source(field_mapping=MAPPING)
    account = Entity(name="account", join_keys=["account"], value_type=ValueType.STRING)
    schema = [Field(name="account", dtype=String), Field(name="spent", dtype=Float64)]
    accounts = view(
        name="accounts",
        entities=[account],
        source=mapped,
        timestamp_field="moment",
        aggregations=[Aggregation("value", "sum", HOUR, name="spent")],
        schema=schema,
    )
    predicted = model(
        spine=mapped,
        spine_key="number",
        request=["value"],
        label=Label(mapped, key="number", value="far", timeout=HOUR),
    )
    plan = plan_of(account, accounts, service(accounts), predicted)
    (topic,) = plan.topics
    assert [column.name for column in topic.columns][:3] == ["card", "at", "amount"]
    assert topic.timestamp_field == "at"
    assert topic.field_mapping == tuple(sorted(MAPPING.items()))
    assert list(columns_of(topic))[:3] == ["account", "moment", "value"]
    (found,) = plan.views
    assert (found.join_keys, found.aggregates[0].column) == (("account",), "value")
    (model_plan,) = plan.models
    assert (model_plan.spine_key, model_plan.label_key, model_plan.label_value) == (
        "number",
        "number",
        "far",
    )
    assert model_plan.schema.names == ("value", "accounts:spent")


@pytest.mark.parametrize("time", ["at", "moment"])
@pytest.mark.parametrize("key", ["shop", "store"])
def test_time_and_key_may_be_given_by_either_name(time: str, key: str) -> None:
    """Both are kept under the record's name."""
    mapping = {"at": "moment", "shop": "store"}
    topic = _topic(mapping, timestamp_field=time, tags={"headwater.key": key})
    assert (topic.timestamp_field, topic.key_field) == ("at", "shop")


def test_two_fields_may_swap_names() -> None:
    """Where a name is a field's and a column's, it is the record's field that is meant."""
    topic = _topic({"shop": "card", "card": "shop"}, tags={"headwater.key": "card"})
    assert topic.key_field == "card"
    columns = columns_of(topic)
    assert (columns["shop"].name, columns["card"].name) == ("card", "shop")


def test_a_text_in_avro_may_be_the_time_by_its_new_name() -> None:
    """A string becomes the event time, whichever name tells so."""
    schema = '{"type": "record", "name": "P", "fields": [{"name": "at", "type": "string"}]}'
    for time in ("at", "moment"):
        topic = _topic({"at": "moment"}, timestamp_field=time, message_format=AvroFormat(schema))
        assert (topic.columns[0].name, topic.columns[0].dtype) == ("at", "timestamp")
