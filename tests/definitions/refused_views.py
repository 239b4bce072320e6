"""What of stream feature views is refused, and objects that the other tables of the audit use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from feast import (
    Entity,
    FeatureView,
    Field,
    KinesisSource,
    OnDemandFeatureView,
    PushSource,
    RequestSource,
    ValueType,
)
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Array, Float32, Float64, Int64, String, UnixTimestamp

from tests.definitions.cards import CARD, HOUR, files, model, one_feature, service, source, view

Objects = list[Any]
ZERO = timedelta(0)
EXACT = {"headwater.windows": "exact"}
KEY = Field(name="card", dtype=String)


def one_sum(**aggregation: Any) -> Objects:
    """A view of one feature: the sum of the amounts, or what ``aggregation`` makes of it."""
    given = {"column": "amount", "function": "sum", "name": "f", **aggregation}
    return [one_feature(Aggregation(**given), Float64)]


def one_field(dtype: Any, **more: Any) -> Objects:
    """A view of one sum, declared like this."""
    return [one_feature(Aggregation("amount", "sum", name="f"), dtype, more)]


def keyed_by(value_type: ValueType, column: str = "card") -> Objects:
    """A view by another entity."""
    entity = Entity(name="other", join_keys=[column], value_type=value_type)
    return [entity, view(entities=[entity], schema=[Field(name="spent", dtype=Float64)])]


def mapped(mapping: dict[str, str], **more: Any) -> Objects:
    """A view whose source has a field_mapping."""
    return [view(source=source(field_mapping=mapping, **more))]


def served(*views: Any, read: Objects | None = None, **more: Any) -> Objects:
    """These views, and a model that reads them, or ``read``."""
    return [*views, service(*(read or views), **more), model()]


def batch_view(kind: Any = FeatureView, **more: Any) -> Any:
    """A view of another kind, filled by Feast."""
    schema = [KEY, Field(name="limit", dtype=Float64)]
    return kind(name="limits", entities=[CARD], schema=schema, source=files(), **more)


def on_demand_view() -> Any:
    """A view that Feast computes when it is asked."""
    asked = RequestSource(name="asked", schema=[Field(name="x", dtype=Float64)])
    function: Any = lambda inputs: {"y": inputs["x"]}  # noqa: E731
    return OnDemandFeatureView(
        name="demanded",
        sources=[asked],
        schema=[Field(name="y", dtype=Float64)],
        udf=function,
        udf_string="",
        mode="python",
    )


def pushed() -> Any:
    """A view that programs push into."""
    return view(source=PushSource(name="pushed", batch_source=files()))


def kinesis() -> Any:
    """A stream that is not in Kafka."""
    return KinesisSource(
        name="kinesis",
        timestamp_field="at",
        record_format=JsonFormat("x double"),
        region="",
        stream_name="payments",
        batch_source=files(),
    )


def derived() -> Objects:
    """A view that reads another view."""
    first = view()
    return [first, view(name="second", source=first, sink_source=files(path="data/second"))]


def two_views(name: str) -> Objects:
    """Two views, the second of this name."""
    return [view(name="cards"), view(name=name, source=source(batch_source=files(path="data/b")))]


# What is asked for -> what is said of it.
REFUSED_VIEWS: dict[str, tuple[Callable[[], Objects], str]] = {
    # Stream feature views.
    "enable_tiling": (lambda: [view(enable_tiling=True)], "leave enable_tiling"),
    "tiling_hop_size": (lambda: [view(tiling_hop_size=HOUR)], "tiling_hop_size out"),
    "stream_engine": (lambda: [view(stream_engine={"type": "spark"})], "stream_engine cannot"),
    "version": (lambda: [view(version="v2")], "version 'v2' cannot be executed"),
    "online=False": (lambda: [view(online=False)], "online=False cannot be executed"),
    "a name with a slash": (lambda: [view(name="a/../../b")], "choose a name without commas"),
    "a name with a comma": (lambda: [view(name="a,b")], "choose a name without commas"),
    "a name of dots": (lambda: [view(name="..")], "choose a name without commas"),
    "a view of views": (derived, "'second' reads a StreamFeatureView; only KafkaSource"),
    "PushSource": (lambda: [pushed()], "reads a PushSource; only KafkaSource"),
    "KinesisSource": (
        lambda: [model(spine=kinesis())],
        "'abroad' reads a KinesisSource; only KafkaSource",
    ),
    "another timestamp_field": (
        lambda: [view(timestamp_field="opened")],
        "timestamp_field is 'opened', but that of its source is 'at'",
    ),
    "a negative ttl": (lambda: [view(ttl=-HOUR)], "ttl is -1 day, 23:00:00; it must be 0"),
    "a ttl without end": (lambda: [view(ttl=timedelta.max)], "shorter than all of time"),
    "no entity": (lambda: [view(entities=[])], "has no entity"),
    "no features": (lambda: [view(schema=[KEY], aggregations=[])], "has no features"),
    "an unknown tag of ours": (
        lambda: [view(tags={"headwater.window": "exact"})],
        r"tag 'headwater.window' is unknown; known here are headwater.offline, headwater.windows",
    ),
    # Feast sees that the first tag is text, and no further.
    "a tag that is a number": (
        lambda: [view(tags={**EXACT, "headwater.exact_tiles": 64})],
        "'headwater.exact_tiles' is 64; tags are text, write '64'",
    ),
    "a tag that is a flag": (
        lambda: [view(tags={**EXACT, "headwater.offline": False})],
        "'headwater.offline' is False; tags are text, write 'false'",
    ),
    "two views of one name": (lambda: two_views("cards"), "view 'cards' is defined twice"),
    "two names but for their case": (lambda: two_views("Cards"), "view 'cards' is defined twice"),
    "a batch view of the same name": (
        lambda: [view(name="limits"), batch_view()],
        "view 'limits' is defined twice",
    ),
    # Windows and tags of views.
    "windows of another kind": (lambda: [view(tags={"headwater.windows": "sliding"})], "'hopping'"),
    "exact windows that hop": (
        lambda: [
            one_feature(
                Aggregation("amount", "sum", HOUR, HOUR / 60, name="f"), Float64, tags=EXACT
            )
        ],
        "leave slide_interval out",
    ),
    "exact_tiles without exact": (
        lambda: [view(tags={"headwater.exact_tiles": "9"})],
        "headwater.exact_tiles needs the tag headwater.windows: exact",
    ),
    "one tile": (
        lambda: [view(tags={**EXACT, "headwater.exact_tiles": "1"})],
        "whole number from 2 to 65536",
    ),
    "a half tile": (
        lambda: [view(tags={**EXACT, "headwater.exact_tiles": "2.5"})],
        "'2.5'; use a whole number",
    ),
    "too few bits": (lambda: [view(tags={"headwater.distinct_bits": "5"})], "from 6 to 14"),
    "too many bits": (lambda: [view(tags={"headwater.distinct_bits": "15"})], "from 6 to 14"),
    "a negative window": (lambda: one_sum(time_window=-HOUR), "must be positive"),
    "a window of nothing": (lambda: one_sum(time_window=ZERO), "must be positive"),
    "a negative hop": (lambda: one_sum(time_window=HOUR, slide_interval=-HOUR), "must be positive"),
    "a hop without window": (lambda: one_sum(slide_interval=HOUR), "needs a time_window"),
    "a hop that does not divide": (
        lambda: one_sum(time_window=HOUR, slide_interval=timedelta(minutes=7)),
        "not a multiple of slide_interval",
    ),
    "too many tiles": (
        lambda: one_sum(time_window=HOUR, slide_interval=timedelta(seconds=1)),
        "3600 tiles; at most 2000",
    ),
    "a window without end": (
        lambda: one_sum(time_window=timedelta.max),
        "leave it out for the whole",
    ),
    # Aggregations and fields.
    "an unknown function": (
        lambda: one_sum(function="median"),
        "'median' cannot be executed; known",
    ),
    "a function in capitals": (lambda: one_sum(function="SUM"), "'SUM' cannot be executed"),
    "no function": (lambda: one_sum(function=""), "function '' cannot be executed"),
    "no column": (lambda: one_sum(column=""), "names no column"),
    "an unknown column": (
        lambda: one_sum(column="amuont"),
        "its topic has no column 'amuont'; it has card, at, amount",
    ),
    "a time as the latest": (
        lambda: [view(aggregations=[], schema=[KEY, Field(name="opened", dtype=Int64)])],
        "feature 'opened': no feature holds a timestamp; leave it out",
    ),
    "a string as a number": (
        lambda: [view(aggregations=[], schema=[KEY, Field(name="shop", dtype=Int64)])],
        r"feature 'shop': column 'shop' \(string\) is declared as Int64; use String",
    ),
    "an aggregation that nobody named": (
        lambda: [view(aggregations=[Aggregation("amount", "sum")])],
        "'sum_amount' is not in the schema; .* or give the Aggregation the name of its Field",
    ),
    "two aggregations of one name": (
        lambda: [view(aggregations=[Aggregation("amount", "sum", name="spent")] * 2)],
        "two features of one name",
    ),
    # Feast names windows by whole seconds.
    "two windows within a second": (
        lambda: [
            view(
                aggregations=[
                    Aggregation("amount", "sum", timedelta(milliseconds=ms)) for ms in (500, 600)
                ],
                schema=[KEY, Field(name="sum_amount_0s", dtype=Float64)],
            )
        ],
        "two features of one name",
    ),
    "an aggregation that is no field": (
        lambda: [view(schema=[KEY, Field(name="other", dtype=Float64)])],
        "aggregation 'spent' is not in the schema",
    ),
    "a field that is no aggregation": (
        lambda: [view(schema=[KEY, *[Field(name=n, dtype=Float64) for n in ("spent", "more")]])],
        "schema and aggregations differ in more",
    ),
    "vector_index": (lambda: one_field(Float64, vector_index=True), "vectors cannot be executed"),
    "vector_length": (lambda: one_field(Float64, vector_length=3), "vectors cannot be executed"),
    "Float32": (lambda: one_field(Float32), "has type Float32; use Int64 or Float64"),
    "UnixTimestamp": (lambda: one_field(UnixTimestamp), "has type UnixTimestamp; use Float64"),
    "Array": (lambda: one_field(Array(Float64)), "has type Array"),
    "a tag of ours at the wrong place": (
        lambda: one_field(Float64, tags={"headwater.offline": "false"}),
        "tag 'headwater.offline' is unknown; known here are headwater.column_type",
    ),
    "column_type of the topic's column": (
        lambda: one_field(Float64, tags={"headwater.column_type": "string"}),
        "says 'string', but the topic has 'amount' as float64",
    ),
    "column_type of no type": (
        lambda: [
            one_feature(
                Aggregation("new", "count", name="f"),
                Int64,
                {"tags": {"headwater.column_type": "text"}},
                udf=lambda rows: rows,
                udf_string="",
            )
        ],
        "is 'text'; use one of string, int64",
    ),
    "a derived column of which nothing tells": (
        lambda: [
            one_feature(
                Aggregation("new", "count_distinct", name="f"),
                Int64,
                udf=lambda rows: rows,
                udf_string="",
            )
        ],
        "nothing says what column 'new' of the transformation holds",
    ),
}
