"""A repository with on-demand views of both ways of calling, and a log for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

STORE = """
project: pay
provider: local
registry: data/registry.db
online_store: {type: sqlite, path: data/online.db}
offline_store: {type: file}
entity_key_serialization_version: 3
"""
DEFINITIONS = '''
from datetime import timedelta

import numpy as np
from feast import Entity, FeatureService, Field, FileSource, KafkaSource, RequestSource
from feast import StreamFeatureView, ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float64, Int64, String
from river import linear_model, preprocessing

from contracts.model_spec import Label, Model


def stream(topic, columns, name):
    return KafkaSource(
        name=name, topic=topic, kafka_bootstrap_servers="localhost:1",
        timestamp_field="event_timestamp", watermark_delay_threshold=timedelta(0),
        message_format=JsonFormat(columns + ", event_timestamp timestamp not null"),
        batch_source=FileSource(name=f"{name}_files", path=f"data/offline/{name}",
                                timestamp_field="event_timestamp"))


def view(name, topic, columns, aggregations, features):
    fields = [Field(name=n, dtype=t) for n, t in {"user": String, **features}.items()]
    return StreamFeatureView(
        name=name, entities=[user], source=stream(topic, columns, name), mode="python",
        timestamp_field="event_timestamp", aggregations=aggregations, schema=fields)


PAYMENTS = "user string not null, paid double"
STATES = "user string not null, ceiling double, premium boolean, level bigint, nick string"
ASKED = ("payment string not null, user string, amount double, items bigint, gift boolean, "
         "shop string")
user = Entity(name="user", join_keys=["user"], value_type=ValueType.STRING)
spend = view("spend", "payments", PAYMENTS, [
    Aggregation(column="paid", function="sum", name="total"),
    Aggregation(column="paid", function="count", name="payments")],
    {"total": Float64, "payments": Int64})
state = view("state", "states", STATES, [], {
    "ceiling": Float64, "premium": Bool, "level": Int64, "nick": String})
asked = RequestSource(name="asked", schema=[
    Field(name="amount", dtype=Float64), Field(name="items", dtype=Int64)])
place = RequestSource(name="place", schema=[
    Field(name="shop", dtype=String), Field(name="gift", dtype=Bool)])


@on_demand_feature_view(
    sources=[spend, asked], mode="python",
    schema=[Field(name="share", dtype=Float64), Field(name="each", dtype=Float64),
            Field(name="count_after", dtype=Int64), Field(name="is_first", dtype=Bool)])
def shares(inputs: dict[str, list]) -> dict[str, list]:
    """What a payment is to those before it."""
    import math

    def over(one, other):
        return None if one is None or not other else one / other

    totals, counts = inputs["total"], inputs["spend__payments"]
    each = [over(a, n) for a, n in zip(inputs["amount"], inputs["items"], strict=True)]
    return {
        "share": [over(a, t) for a, t in zip(inputs["amount"], totals, strict=True)],
        "each": [math.nan if one is None else float(np.tanh(one)) for one in each],
        "count_after": [None if n is None else n + 1 for n in counts],
        "is_first": [n is None or n == 0 for n in counts],
        "nobody asks for it": [0.5] * len(counts),
    }


@on_demand_feature_view(
    sources=[state[["ceiling", "premium", "level"]], place, asked], mode="python", singleton=True,
    schema=[Field(name="left", dtype=Float64), Field(name="rank", dtype=Int64),
            Field(name="unused", dtype=Float64)])
def room(inputs):
    ceiling, amount, level = inputs["ceiling"], inputs["amount"], inputs["level"]
    left = None if ceiling is None or amount is None else ceiling - amount
    rank = len(inputs["shop"] or "") + (2 if inputs["state__premium"] else 1) * (level or 0)
    return {"left": left, "rank": rank if inputs["gift"] else -rank, "unused": 0.5}


service = FeatureService(
    name="service", features=[spend[["total"]], shares, room[["left", "rank"]]])
risky = Model(
    name="risky", features="service", request=["amount"],
    spine=stream("asked", ASKED, "spine"), spine_key="payment",
    label=Label(source=stream("outcomes", "payment string not null, bad double not null", "label"),
                key="payment", value="bad", timeout=timedelta(hours=1)),
    publish_every=timedelta(days=1), defaults={"shares:share": 7.5, "room:left": -3.0},
    learner=lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression())
'''
_START = datetime(2024, 5, 1, tzinfo=UTC)
# None and numbers that do not add up without rounding; what comes last is in no state.
USERS = ("ann", "Jürgen Öß", "東京🗼", "none", "nobody", None)
AMOUNTS = (0.1, 2.5, None, -1e300, 0.0, 12345.678)
SHOPS = ("deli", None, "", "Zürich")


def make(folder: Path) -> Path:
    """Write the files of the repository."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(STORE)
    (folder / "definitions.py").write_text(DEFINITIONS)
    return folder


def asked_rows() -> dict[str, dict[str, Any]]:
    """Payment -> what is asked of it: every user with every amount."""
    return {
        f"p{number}": {
            "user": USERS[number % len(USERS)],
            "amount": AMOUNTS[number // len(USERS) % len(AMOUNTS)],
            "items": (3, None, 0, 2**40)[number % 4],
            "gift": (True, None, False)[number % 3],
            "shop": SHOPS[number * 7 % len(SHOPS)],
        }
        for number in range(len(USERS) * len(AMOUNTS))
    }


def write_log(folder: Path) -> None:
    """First what users did, then what is asked; nobody does anything after that."""
    payments = [
        {"user": user, "paid": paid}
        for number, paid in enumerate((0.1, 0.2, None, 10.7, 1e-9))
        if (user := USERS[number % 3])
    ]
    payments.append({"user": "none", "paid": None})
    states: list[dict[str, Any]] = [
        {"user": "ann", "ceiling": 100.25, "premium": True, "level": 3, "nick": "a"},
        {"user": "Jürgen Öß", "ceiling": None, "premium": False, "level": -(2**40), "nick": None},
        {"user": "東京🗼", "ceiling": 0.3, "premium": None, "level": None, "nick": "t"},
    ]
    asked = [{"payment": payment, **row} for payment, row in asked_rows().items()]
    minute = 0
    topics: dict[str, list[dict[str, Any]]] = {
        "payments": payments,
        "states": states,
        "asked": asked,
    }
    for topic, records in topics.items():
        path = folder / topic / "0.ndjson"
        path.parent.mkdir(parents=True)
        with path.open("w") as file:
            for record in records:
                minute += 1
                at = (_START + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")
                file.write(json.dumps({**record, "event_timestamp": at}) + "\n")
    (folder / "outcomes").mkdir()
    (folder / "outcomes" / "0.ndjson").touch()
