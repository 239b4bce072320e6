"""The shop with a model that reads a text, and what on-demand views make of hidden features."""

from __future__ import annotations

from tests.flow import shop

MORE = """
from feast import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view

asked = RequestSource(name="asked", schema=[
    Field(name="amount", dtype=Float64), Field(name="word", dtype=String)])
shop_users = view(
    "shop_users", [shop], ORDERS, {"shop": Int64},
    [Aggregation(column="user", function="last", name="last_user")], {"last_user": String})


@on_demand_feature_view(
    sources=[user_orders[["last", "orders_20m"]], asked], mode="python",
    schema=[Field(name="ratio", dtype=Float64), Field(name="length", dtype=Int64)])
def compared(inputs):
    columns = [inputs[name] for name in ("amount", "last", "orders_20m", "word")]
    ratios = [(amount or 0.5) / (1.0 + (last or 0.0)) + 1000.0 * (orders or 0)
              for amount, last, orders, _ in zip(*columns, strict=True)]
    return {"ratio": ratios, "length": [len(word or "") for word in inputs["word"]]}


@on_demand_feature_view(
    sources=[user_visits[["seconds"]]], mode="python",
    schema=[Field(name="minutes", dtype=Float64)])
def in_minutes(inputs):
    return {"minutes": [None if s is None else s / 60.0 for s in inputs["seconds"]]}


service = FeatureService(
    name="late_order",
    features=[user_orders[["orders_20m"]], shop_users, compared, in_minutes])
late_order = Model(
"""


def definitions() -> str:
    """``last`` and ``seconds`` stand in no vector."""
    head, model = shop.DEFINITIONS.split("service = FeatureService(")
    spine = ORDERS_WITH_WORD
    head = head.replace("amount double, event_timestamp", spine)
    return f"{head}{MORE.strip()}{model.split('late_order = Model(')[1]}"


ORDERS_WITH_WORD = "amount double, word string, event_timestamp"
