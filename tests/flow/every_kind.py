"""The shop with views of every kind: all functions, strings, exact windows, transformations."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.flow import shop

# The views whose features a model can read, and those with strings.
MORE = """
def over_of(column, function, minutes, hop_minutes, name):
    return Aggregation(column=column, function=function, name=name,
                       time_window=timedelta(minutes=minutes),
                       slide_interval=timedelta(minutes=hop_minutes))


def always(column, function, name):
    return Aggregation(column=column, function=function, name=name)


def sizes(rows):
    amounts = rows["amount"]
    return {**rows,
            "size": [None if a is None else "big" if a > 15 else "small" for a in amounts],
            "is_big": [None if a is None else a > 15 for a in amounts]}


def quarters(rows):
    return rows.assign(quarter=rows["amount"] / 4, at=rows["channel"].str.upper())


user_facts = view(
    "user_facts", [user], ORDERS, {"user": String},
    [over_of("amount", "var", 30, 5, "var_30m"), over_of("amount", "std", 10, 10, "std_10m"),
     over_of("amount", "first", 30, 10, "first_30m"), always("amount", "std", "std_ever"),
     over_of("channel", "count_distinct", 60, 20, "channels_60m"),
     over_of("shop", "count_distinct", 20, 5, "shops_20m"),
     over_of("channel", "count", 20, 5, "named_20m"), always("shop", "count_distinct", "shops"),
     always("is_paid", "last", "last_paid"), over_of("is_paid", "first", 10, 5, "first_paid_10m")],
    {"var_30m": Float64, "std_10m": Float64, "first_30m": Float64, "std_ever": Float64,
     "channels_60m": Int64, "shops_20m": Int64, "named_20m": Int64, "shops": Int64,
     "last_paid": Bool, "first_paid_10m": Bool})
user_channels = view(
    "user_channels", [user], ORDERS, {"user": String},
    [over_of("channel", "first", 20, 5, "first_20m"),
     over_of("channel", "last", 30, 10, "last_30m"),
     always("channel", "first", "first"), always("channel", "last", "last"),
     over("sum", 10, 5, "spent_10m")],
    {"first_20m": String, "last_30m": String, "first": String, "last": String,
     "spent_10m": Float64})
user_exact = view(
    "user_exact", [user], ORDERS, {"user": String},
    [Aggregation(column=column, function=function, name=name, time_window=timedelta(minutes=size))
     for column, function, size, name in [
         ("amount", "count", 15, "orders_15m"), ("amount", "sum", 45, "spent_45m"),
         ("amount", "max", 15, "max_15m"), ("amount", "var", 45, "var_45m"),
         ("channel", "count_distinct", 15, "channels_15m"), ("channel", "last", 15, "last_15m")]],
    {"orders_15m": Int64, "spent_45m": Float64, "max_15m": Float64, "var_45m": Float64,
     "channels_15m": Int64, "last_15m": String},
    tags={"headwater.windows": "exact", "headwater.exact_tiles": "12"})
shop_latest = view(
    "shop_latest", [shop], ORDERS, {"shop": Int64}, [],
    {"channel": String, "is_paid": Bool, "amount": Float64}, ttl=timedelta(minutes=1))
shop_sizes = view(
    "shop_sizes", [shop], ORDERS, {"shop": Int64},
    [over_of("size", "count_distinct", 10, 5, "sizes_10m"), always("size", "last", "last_size"),
     always("is_big", "last", "last_is_big"), over_of("amount", "mean", 10, 5, "mean_10m")],
    {"sizes_10m": Int64, "last_size": String, "last_is_big": Bool, "mean_10m": Float64},
    udf=sizes, udf_string="sizes")
user_quarters = view(
    "user_quarters", [user], ORDERS, {"user": String},
    [over_of("quarter", "sum", 10, 5, "quarters_10m"), always("at", "last", "last_at")],
    {"quarters_10m": Float64, "last_at": String}, udf=quarters, udf_string="quarters",
    udf_mode="pandas")
every_kind = FeatureService(
    name="every_kind",
    features=[user_facts, user_channels, user_exact, shop_latest, shop_sizes, user_quarters])
"""
_NUMBERS = """[user_orders, user_visits, user_shop, shop_orders, user_facts,
    user_channels[["spent_10m"]], shop_latest[["is_paid", "amount"]],
    user_exact[["orders_15m", "spent_45m", "max_15m", "var_45m", "channels_15m"]],
    shop_sizes[["sizes_10m", "last_is_big", "mean_10m"]], user_quarters[["quarters_10m"]]])"""
CHANNELS = [None, "", "web", "app", "caf\u00e9", "\u6771\u4eac \U0001f5fc", "a\x00b", "w" * 3_000]


def _definitions() -> str:
    text = shop.DEFINITIONS
    changes = {
        "from feast.types import Float64,": "from feast.types import Bool, Float64,",
        '"amount double, event': '"amount double, via string, is_paid boolean, event',
        "watermark_delay_threshold=": 'field_mapping={"via": "channel"} if topic is ORDERS else {},'
        "        watermark_delay_threshold=",
        "aggregations, values, **more):": 'aggregations, values, udf_mode="python", **more):',
        'mode="python", timestamp': "mode=udf_mode, timestamp",
        "service = FeatureService(": MORE + "service = FeatureService(",
        "[user_orders, user_visits, user_shop, shop_orders])": _NUMBERS,
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


DEFINITIONS = _definitions()


def make_records(seed: int, orders: int) -> list[shop.Record]:
    """The shop's log with what the additional views look at in its orders."""
    rng = random.Random(seed)
    return [_more(record, rng) for record in shop.make_records(seed, orders)]


def _more(record: shop.Record, rng: random.Random) -> shop.Record:
    if record.topic != "orders" or record.fields is None:
        return record
    more = {"via": rng.choice(CHANNELS), "is_paid": rng.choice([None, True, False])}
    line = json.dumps({**json.loads(record.line), **more}, ensure_ascii=rng.random() < 0.5)
    fields = {**record.fields, "channel": more["via"], "is_paid": more["is_paid"]}
    return replace(record, line=line.encode(), fields={**fields, **_derived(fields)})


def _derived(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the transformations of the views make of an order."""
    amount, channel = fields["amount"], fields["channel"]
    if amount is None:
        made: dict[str, Any] = {"size": None, "is_big": None, "quarter": None}
    else:
        is_big = amount > 15
        made = {"size": "big" if is_big else "small", "is_big": is_big, "quarter": amount / 4}
    return {**made, "at": None if channel is None else channel.upper()}
