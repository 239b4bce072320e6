"""A repository as text, with a function of rows in each of the ways to give one."""

from __future__ import annotations

REPOSITORY = """
from __future__ import annotations

import math
from datetime import timedelta
import pandas as pd
from feast import Entity, Field, FileSource, KafkaSource, StreamFeatureView, ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.stream_feature_view import stream_feature_view
from feast.transformation.pandas_transformation import PandasTransformation
from feast.types import Float64, String

FACTOR = 2.0
NAMES = {"b", "a"}
card = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)


def given(name):
    source = KafkaSource(
        name=name, topic="payments", kafka_bootstrap_servers="", timestamp_field="at",
        message_format=JsonFormat("card string not null, amount double, at timestamp not null"),
        batch_source=FileSource(name=f"{name}_files", path=f"data/{name}",
                                timestamp_field="event_timestamp"))
    return dict(
        entities=[card], source=source, timestamp_field="at", ttl=timedelta(0),
        aggregations=[Aggregation("big", "sum", timedelta(hours=1), name="f")],
        schema=[Field(name="card", dtype=String), Field(name="f", dtype=Float64)])


def times(amount):
    return math.floor(amount * FACTOR)


def enlarged(rows):
    return {**rows, "big": [times(amount) for amount in rows["amount"]]}


def frame(rows: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({**rows, "big": rows["amount"] * FACTOR})


plain = StreamFeatureView(
    name="plain", udf=enlarged, udf_string="", mode="python", **given("plain"))
direct = StreamFeatureView(
    name="direct", feature_transformation=PandasTransformation(frame, ""), **given("direct"))


@stream_feature_view(mode="python", **given("decorated"))
def decorated(rows):
    return enlarged(rows) if NAMES else rows
"""
