"""All that Feast lets people write, one by one: run, without effect on us, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from feast import (
    BatchFeatureView,
    Entity,
    FeatureView,
    Field,
    FileSource,
    KinesisSource,
    OnDemandFeatureView,
    PushSource,
    RequestSource,
    ValueType,
)
from feast.aggregation import Aggregation
from feast.data_format import AvroFormat, DeltaFormat, JsonFormat
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.types import Array, Float32, Float64, Int64, String, UnixTimestamp

from dataflows.definitions.errors import DefinitionError
from tests.definitions.cards import (
    CARD,
    HOUR,
    files,
    model,
    one_feature,
    plan_of,
    service,
    source,
    view,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Stream feature views are experimental"),
    pytest.mark.filterwarnings("ignore:Batch feature views are experimental"),
    pytest.mark.filterwarnings("ignore:On demand feature view"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:feast"),
]

Objects = list[Any]
ZERO = timedelta(0)
EXACT = {"headwater.windows": "exact"}
KEY = Field(name="card", dtype=String)


def _of(**aggregation: Any) -> Objects:
    given = {"column": "amount", "function": "sum", "name": "f", **aggregation}
    return [one_feature(Aggregation(**given), Float64)]


def _feature(dtype: Any, **more: Any) -> Objects:
    return [one_feature(Aggregation("amount", "sum", name="f"), dtype, more)]


def _by(value_type: ValueType, column: str = "card") -> Objects:
    entity = Entity(name="other", join_keys=[column], value_type=value_type)
    return [entity, view(entities=[entity], schema=[Field(name="spent", dtype=Float64)])]


def _mapped(mapping: dict[str, str], **more: Any) -> Objects:
    return [view(source=source(field_mapping=mapping, **more))]


def _served(*views: Any, read: Objects | None = None, **more: Any) -> Objects:
    """These views, and a model that reads them, or ``read``."""
    return [*views, service(*(read or views), **more), model()]


def _batch_view(kind: Any = FeatureView, **more: Any) -> Any:
    schema = [KEY, Field(name="limit", dtype=Float64)]
    return kind(name="limits", entities=[CARD], schema=schema, source=files(), **more)


def _on_demand() -> Any:
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


def _pushed() -> Any:
    return view(source=PushSource(name="pushed", batch_source=files()))


def _kinesis() -> Any:
    return KinesisSource(
        name="kinesis",
        timestamp_field="at",
        record_format=JsonFormat("x double"),
        region="",
        stream_name="payments",
        batch_source=files(),
    )


def _derived() -> Objects:
    first = view()
    return [first, view(name="second", source=first, sink_source=files(path="data/second"))]


def _two(name: str) -> Objects:
    return [view(name="cards"), view(name=name, source=source(batch_source=files(path="data/b")))]


# What is asked for -> what is said of it.
REFUSED: dict[str, tuple[Callable[[], Objects], str]] = {
    # Stream feature views.
    "enable_tiling": (lambda: [view(enable_tiling=True)], "leave enable_tiling"),
    "tiling_hop_size": (lambda: [view(tiling_hop_size=HOUR)], "tiling_hop_size out"),
    "stream_engine": (lambda: [view(stream_engine={"type": "spark"})], "stream_engine cannot"),
    "version": (lambda: [view(version="v2")], "version 'v2' cannot be executed"),
    "online=False": (lambda: [view(online=False)], "online=False cannot be executed"),
    "a view of views": (_derived, "'second' reads a StreamFeatureView; only KafkaSource"),
    "PushSource": (lambda: [_pushed()], "reads a PushSource; only KafkaSource"),
    "KinesisSource": (
        lambda: [model(spine=_kinesis())],
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
    "two views of one name": (lambda: _two("cards"), "view 'cards' is defined twice"),
    "two names but for their case": (lambda: _two("Cards"), "view 'cards' is defined twice"),
    "a batch view of the same name": (
        lambda: [view(name="limits"), _batch_view()],
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
    "too few bits": (lambda: [view(tags={"headwater.distinct_bits": "3"})], "from 4 to 14"),
    "too many bits": (lambda: [view(tags={"headwater.distinct_bits": "15"})], "from 4 to 14"),
    "a negative window": (lambda: _of(time_window=-HOUR), "must be positive"),
    "a window of nothing": (lambda: _of(time_window=ZERO), "must be positive"),
    "a negative hop": (lambda: _of(time_window=HOUR, slide_interval=-HOUR), "must be positive"),
    "a hop without window": (lambda: _of(slide_interval=HOUR), "needs a time_window"),
    "a hop that does not divide": (
        lambda: _of(time_window=HOUR, slide_interval=timedelta(minutes=7)),
        "not a multiple of slide_interval",
    ),
    "too many tiles": (
        lambda: _of(time_window=HOUR, slide_interval=timedelta(seconds=1)),
        "3600 tiles; at most 2000",
    ),
    "a window without end": (lambda: _of(time_window=timedelta.max), "leave it out for the whole"),
    # Aggregations and fields.
    "an unknown function": (lambda: _of(function="median"), "'median' cannot be executed; known"),
    "a function in capitals": (lambda: _of(function="SUM"), "'SUM' cannot be executed"),
    "no function": (lambda: _of(function=""), "function '' cannot be executed"),
    "no column": (lambda: _of(column=""), "names no column"),
    "an unknown column": (lambda: _of(column="amuont"), "its topic has no column 'amuont'"),
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
    "vector_index": (lambda: _feature(Float64, vector_index=True), "vectors cannot be executed"),
    "vector_length": (lambda: _feature(Float64, vector_length=3), "vectors cannot be executed"),
    "Float32": (lambda: _feature(Float32), "has type Float32; use Int64 or Float64"),
    "UnixTimestamp": (lambda: _feature(UnixTimestamp), "has type UnixTimestamp; use Float64"),
    "Array": (lambda: _feature(Array(Float64)), "has type Array"),
    "a tag of ours at the wrong place": (
        lambda: _feature(Float64, tags={"headwater.offline": "false"}),
        "tag 'headwater.offline' is unknown; known here are headwater.column_type",
    ),
    "column_type of the topic's column": (
        lambda: _feature(Float64, tags={"headwater.column_type": "string"}),
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
    # Entities.
    "an entity that is a number": (lambda: _by(ValueType.DOUBLE), "must be a String or Int64"),
    "an entity of 32 bits": (lambda: _by(ValueType.INT32), "must be a String or Int64"),
    "an entity that is a flag": (lambda: _by(ValueType.BOOL), "must be a String or Int64"),
    "an entity of no type": (lambda: _by(ValueType.UNKNOWN), "must be a String or Int64"),
    "an entity of another type": (lambda: _by(ValueType.INT64), "no int64 column 'card'"),
    "an entity without column": (lambda: _by(ValueType.STRING, "who"), "no string column 'who'"),
    "two entities of one name": (
        lambda: [Entity(name="card", join_keys=["x"], value_type=ValueType.STRING), view()],
        "entity 'card' is defined twice",
    ),
    "a tag of ours at an entity": (
        lambda: [
            Entity(name="e", value_type=ValueType.STRING, tags={"headwater.key": "e"}),
            view(),
        ],
        "entity 'e': tag 'headwater.key' is unknown; none of ours belongs here",
    ),
    # Sources.
    "no topic": (lambda: [view(source=source(topic=""))], "names no topic"),
    "created_timestamp_column": (
        lambda: [view(source=source(created_timestamp_column="opened"))],
        "created_timestamp_column cannot be executed",
    ),
    "a negative watermark delay": (
        lambda: [view(source=source(watermark_delay_threshold=-HOUR))],
        "it must be 0 or more",
    ),
    "a source's unknown tag": (
        lambda: [view(source=source(tags={"headwater.frame": "x"}))],
        "'headwater.frame' is unknown; known here are headwater.key, headwater.framing",
    ),
    "a key that is no column": (
        lambda: [view(source=source(tags={"headwater.key": "x"}))],
        "names 'x', which is no column",
    ),
    "a time that is no column": (
        lambda: [view(source=source(timestamp_field="x"), timestamp_field="x")],
        "timestamp_field 'x' is not a timestamp",
    ),
    "a schema that cannot be read": (
        lambda: [view(source=source(message_format=AvroFormat("{")))],
        "not JSON",
    ),
    "a topic described in two ways": (
        lambda: [
            view(),
            view(
                name="other",
                source=source(field_mapping={"shop": "s"}, batch_source=files(path="data/other")),
            ),
        ],
        "must agree in message_format, timestamp_field, field_mapping",
    ),
    # field_mapping.
    "an unknown field is mapped": (lambda: _mapped({"x": "y"}), "its format has no column 'x'"),
    "two fields become one": (
        lambda: _mapped({"amount": "v", "items": "v"}),
        "two fields would be called 'v'",
    ),
    "a field becomes another": (
        lambda: _mapped({"amount": "items"}),
        "two fields would be called 'items'",
    ),
    "a column that is no name": (lambda: _mapped({"amount": "a b"}), "must be a plain name"),
    "the old name is used": (lambda: _mapped({"amount": "value"}), "has no column 'amount'"),
    # Batch sources, where the rows of a view are kept.
    "batch: created_timestamp_column": (
        lambda: [view(source=source(batch_source=files(created_timestamp_column="c")))],
        "batch_source's created_timestamp_column cannot be executed",
    ),
    "batch: field_mapping": (
        lambda: [view(source=source(batch_source=files(field_mapping={"a": "b"})))],
        "batch_source's field_mapping cannot be executed",
    ),
    "batch: another time": (
        lambda: [view(source=source(batch_source=files(timestamp_field="at")))],
        "must be 'event_timestamp'",
    ),
    "batch: far away": (
        lambda: [view(source=source(batch_source=files(path="s3://bucket/cards")))],
        "FileSource with a local folder",
    ),
    "batch: another format": (
        lambda: [view(source=source(batch_source=files(file_format=DeltaFormat())))],
        "must be ParquetFormat",
    ),
    "batch: a tag of ours": (
        lambda: [view(source=source(batch_source=files(tags={"headwater.offline": "false"})))],
        "its batch_source: tag 'headwater.offline' is unknown",
    ),
    # Services, where a model reads them, and models.
    "a batch view in a model": (
        lambda: _served(view(), _batch_view()),
        "has 'limits', which is not a stream feature view",
    ),
    "a BatchFeatureView in a model": (
        lambda: _served(_batch_view(BatchFeatureView, mode="python", udf=lambda rows: rows)),
        "has 'limits', which is not a stream feature view",
    ),
    "an on demand view in a model": (
        lambda: _served(view(), _on_demand()),
        "has 'demanded', which is not a stream feature view",
    ),
    "with_name": (
        lambda: _served(v := view(), read=[v.with_name("x")]),
        "with_name and with_join_key",
    ),
    "with_join_key_map": (
        lambda: _served(v := view(), read=[v.with_join_key_map({"card": "shop"})]),
        "with_join_key_map cannot be executed",
    ),
    "logging_config": (
        lambda: _served(
            view(), logging_config=LoggingConfig(destination=FileLoggingDestination(path="logs"))
        ),
        "has a logging_config, which cannot be executed",
    ),
    "precompute_online": (
        lambda: _served(view(), precompute_online=True),
        "precompute_online cannot be executed",
    ),
    "a tag of ours at a service": (
        lambda: _served(view(), tags={"headwater.offline": "false"}),
        "feature service 'features': tag 'headwater.offline' is unknown",
    ),
    "a feature twice": (
        lambda: _served(v := view(), read=[v, v[["spent"]]]),
        "a feature stands twice",
    ),
    "two services of one name": (
        lambda: [view(), service(), service()],
        "service 'features' is defined twice",
    ),
    "a string in a vector": (
        lambda: _served(one_feature(Aggregation("shop", "last", name="f"), String)),
        "feature 'cards:f' is a String, and a vector holds numbers",
    ),
    "a string that is asked for": (
        lambda: [view(), service(), model(request=["shop"])],
        "'shop' is not a number or boolean",
    ),
    "a label without timeout": (
        lambda: [view(), service(), model(request=["amount"], publish_every=ZERO)],
        "must be positive",
    ),
    "nothing to run": (lambda: [_batch_view()], "no StreamFeatureView and no Model"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_run_is_refused_by_name(what: str) -> None:
    """One line tells which object asks for what, so that nothing is silently left out."""
    objects, reason = REFUSED[what]
    with pytest.raises(DefinitionError, match=reason) as caught:
        plan_of(*objects())
    assert "\n" not in str(caught.value)


# What is asked for -> why it may be: Feast alone acts on it, or what it asks for is done anyway.
HARMLESS: dict[str, Callable[[], Objects]] = {
    # Words for people and for Feast's UI.
    "words": lambda: [view(description="d", owner="o", org="x", tags={"team": "t"})],
    # The tag headwater.offline decides; Feast's own writer is never asked.
    "offline": lambda: [view(offline=True)],
    # Every record is checked against the declared types anyway.
    "enable_validation": lambda: [view(enable_validation=True)],
    # Feast itself ignores it for a view that has a stream.
    "sink_source": lambda: [view(sink_source=files(path="data/sink"))],
    # Feast means the current version.
    "version latest": lambda: [view(version="latest")],
    # The source's is taken.
    "no timestamp_field": lambda: [
        view(timestamp_field="", aggregations=[], schema=[KEY, Field(name="amount", dtype=Float64)])
    ],
    # The log is named by HEADWATER_LOG_URL; this is for other programs.
    "kafka_bootstrap_servers": lambda: [view(source=source(kafka_bootstrap_servers="kafka:9092"))],
    # A name for itself.
    "field_mapping of nothing": lambda: _mapped({"amount": "amount"}),
    "words of a field": lambda: _feature(Float64, description="d", tags={"unit": "EUR"}),
    # Feast fills and serves these by itself; no model of ours reads them here.
    "a batch view": lambda: [view(), _batch_view()],
    "an on demand view": lambda: [view(), _on_demand()],
    "a service of others": lambda: [view(), b := _batch_view(), service(b.with_name("x"))],
    # Feast's own server acts on it; no model reads this service.
    "a logged service": lambda: [
        v := view(),
        service(v, logging_config=LoggingConfig(FileLoggingDestination(path="logs"))),
    ],
    # The key's type is in the schema.
    "an entity of a type that the schema knows": lambda: [
        e := Entity(name="other", join_keys=["card"], value_type=ValueType.UNKNOWN),
        view(entities=[e]),
    ],
    # A batch source of a view that is served only is Feast's affair.
    "a batch source that is not written": lambda: [
        view(
            source=source(batch_source=files(path="s3://bucket/cards")),
            tags={"headwater.offline": "false"},
        )
    ],
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_does_not_concern_us_changes_nothing(what: str) -> None:
    """It is no reason to refuse a repository, and makes no other plan."""
    (found,) = plan_of(*HARMLESS[what]()).views
    (usual,) = plan_of(view()).views
    assert (found.topic, found.join_keys, found.join_key_types) == (
        "payments",
        ("card",),
        ("string",),
    )
    assert found.ttl_us == usual.ttl_us
    assert found.aggregates[0].column == "amount"
    assert found.transform == "none"


def test_feast_itself_refuses_some() -> None:
    """What Feast does not let people define needs no refusal of ours."""
    with pytest.raises(ValueError, match="single join key"):
        Entity(name="e", join_keys=["a", "b"], value_type=ValueType.STRING)
    with pytest.raises(TypeError, match="date_partition_column"):
        FileSource(path="p", date_partition_column="d")  # type: ignore[call-arg]
    for batch_or_unknown in (files(), _kinesis()):
        with pytest.raises(ValueError, match="stream source"):
            view(source=batch_or_unknown)
    with pytest.raises(ValueError, match="timestamp field"):
        view(timestamp_field="")
