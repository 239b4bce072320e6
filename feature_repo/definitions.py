"""Will a flight from New York arrive more than 15 minutes late? Asked at its scheduled departure.

Everything is read strictly before that moment. One thing to know when reading the scores: more
than half of the flights leave early, and then their own departure is known by that moment, as the
latest one of their aircraft (``tail_departures``). That is allowed, since the world knew it; about
0.04 of the model's AUC comes from it.
"""

from __future__ import annotations

import os
from datetime import timedelta

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
from feast.data_format import JsonFormat, ParquetFormat
from feast.types import Float64, Int64, String
from river import compose, linear_model, optim, preprocessing

from contracts.model_spec import Drift, Label, Model

MINUTES_10 = timedelta(minutes=10)
MINUTES_30 = timedelta(minutes=30)
HOUR = timedelta(hours=1)

# -- what is known about a flight, and when --

_WHO = (
    "flight_id string not null, event_timestamp timestamp not null, carrier string not null, "
    "tailnum string, origin string not null, dest string not null"
)
FORMATS = {
    "flights.scheduled": f"{_WHO}, flight bigint not null, distance double not null, "
    "sched_elapsed_minutes bigint not null, hour_sin double not null, hour_cos double not null, "
    "day_of_week bigint not null, month bigint not null",
    "flights.departed": f"{_WHO}, dep_delay double not null",
    "flights.arrived": f"{_WHO}, arr_delay double not null",
    "weather.observed": "origin string not null, event_timestamp timestamp not null, temp double, "
    "dewp double, humid double, wind_dir double, wind_speed double, wind_gust double, "
    "precip double, pressure double, visib double",
}


def stream(name: str, topic: str) -> KafkaSource:
    """A source of its own for each view: Feast keeps a view's offline files with its source."""
    return KafkaSource(
        name=name,
        topic=topic,
        timestamp_field="event_timestamp",
        message_format=JsonFormat(schema_json=FORMATS[topic]),
        # Only Feast reads this; the log that Headwater reads is HEADWATER_LOG_URL.
        kafka_bootstrap_servers=os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
        watermark_delay_threshold=timedelta(0),
        batch_source=FileSource(
            name=f"{name}_offline",
            path=f"data/offline/{name}",
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
        ),
    )


scheduled = stream("scheduled", "flights.scheduled")
arrived = stream("arrived", "flights.arrived")

# -- whom a feature is about --

tail = Entity(name="tail", join_keys=["tailnum"], value_type=ValueType.STRING)
origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING)
carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING)
dest = Entity(name="dest", join_keys=["dest"], value_type=ValueType.STRING)

# -- features --

tail_arrivals = StreamFeatureView(
    name="tail_arrivals",
    entities=[tail],
    source=stream("tail_arrivals", "flights.arrived"),
    mode="python",
    timestamp_field="event_timestamp",
    schema=[
        Field(name="tailnum", dtype=String),
        Field(name="arr_delay_last", dtype=Float64),
    ],
    aggregations=[Aggregation(column="arr_delay", function="last", name="arr_delay_last")],
    offline=True,
)

tail_departures = StreamFeatureView(
    name="tail_departures",
    entities=[tail],
    source=stream("tail_departures", "flights.departed"),
    mode="python",
    timestamp_field="event_timestamp",
    schema=[
        Field(name="tailnum", dtype=String),
        Field(name="dep_delay_last", dtype=Float64),
        Field(name="dep_delay_mean_6h", dtype=Float64),
    ],
    aggregations=[
        Aggregation(column="dep_delay", function="last", name="dep_delay_last"),
        Aggregation(
            column="dep_delay",
            function="mean",
            time_window=6 * HOUR,
            slide_interval=MINUTES_30,
            name="dep_delay_mean_6h",
        ),
    ],
    offline=True,
)

origin_departures = StreamFeatureView(
    name="origin_departures",
    entities=[origin],
    source=stream("origin_departures", "flights.departed"),
    mode="python",
    timestamp_field="event_timestamp",
    schema=[
        Field(name="origin", dtype=String),
        Field(name="dep_delay_mean_1h", dtype=Float64),
        Field(name="dep_delay_mean_3h", dtype=Float64),
        Field(name="dep_delay_count_3h", dtype=Int64),
    ],
    aggregations=[
        Aggregation(
            column="dep_delay",
            function="mean",
            time_window=HOUR,
            slide_interval=MINUTES_10,
            name="dep_delay_mean_1h",
        ),
        Aggregation(
            column="dep_delay",
            function="mean",
            time_window=3 * HOUR,
            slide_interval=MINUTES_10,
            name="dep_delay_mean_3h",
        ),
        Aggregation(
            column="dep_delay",
            function="count",
            time_window=3 * HOUR,
            slide_interval=MINUTES_10,
            name="dep_delay_count_3h",
        ),
    ],
    offline=True,
)

carrier_departures = StreamFeatureView(
    name="carrier_departures",
    entities=[carrier],
    source=stream("carrier_departures", "flights.departed"),
    mode="python",
    timestamp_field="event_timestamp",
    schema=[
        Field(name="carrier", dtype=String),
        Field(name="dep_delay_mean_3h", dtype=Float64),
    ],
    aggregations=[
        Aggregation(
            column="dep_delay",
            function="mean",
            time_window=3 * HOUR,
            slide_interval=MINUTES_10,
            name="dep_delay_mean_3h",
        )
    ],
    offline=True,
)

dest_arrivals = StreamFeatureView(
    name="dest_arrivals",
    entities=[dest],
    source=stream("dest_arrivals", "flights.arrived"),
    mode="python",
    timestamp_field="event_timestamp",
    schema=[
        Field(name="dest", dtype=String),
        Field(name="arr_delay_mean_3h", dtype=Float64),
    ],
    aggregations=[
        Aggregation(
            column="arr_delay",
            function="mean",
            time_window=3 * HOUR,
            slide_interval=MINUTES_30,
            name="arr_delay_mean_3h",
        )
    ],
    offline=True,
)

WEATHER = ("visib", "precip", "humid", "wind_speed")
origin_weather = StreamFeatureView(
    name="origin_weather",
    entities=[origin],
    source=stream("origin_weather", "weather.observed"),
    mode="python",
    timestamp_field="event_timestamp",
    schema=[
        Field(name="origin", dtype=String),
        *(Field(name=f"{measure}_last", dtype=Float64) for measure in WEATHER),
    ],
    # The last value that was measured: now and then an hour lacks one.
    aggregations=[
        Aggregation(column=measure, function="last", name=f"{measure}_last") for measure in WEATHER
    ],
    offline=True,
)

late_arrival_features = FeatureService(
    name="late_arrival",
    features=[
        tail_arrivals,
        tail_departures,
        origin_departures,
        carrier_departures,
        dest_arrivals,
        origin_weather,
    ],
)

# -- models --

REQUEST = ("distance", "sched_elapsed_minutes", "hour_sin", "hour_cos", "day_of_week", "month")
late = Label(source=arrived, key="flight_id", value="arr_delay > 15", timeout=timedelta(days=2))


def learner() -> compose.Pipeline:
    """A new logistic regression on scaled fields."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.001))


late_arrival = Model(
    name="late_arrival",
    spine=scheduled,
    spine_key="flight_id",
    label=late,
    learner=learner,
    features="late_arrival",
    request=REQUEST,
    # Until the first observation the sky is clear; 0 miles would be thick fog.
    defaults={"origin_weather:visib_last": 10.0},
    publish_every=timedelta(days=1),
    segments=("origin", "carrier"),
    # Some nine days of flights, held against some seven weeks: a day is never like the one before.
    drift=Drift(window_rows=10_000, reference_rows=50_000),
    intended_use="To tell passengers and gates of a probable delay at the scheduled departure. Not "
    "to judge airlines: more than half of a late arrival is other people's weather and traffic.",
)

# What the features are worth: the same learner with nothing but the schedule.
late_arrival_static = Model(
    name="late_arrival_static",
    spine=scheduled,
    spine_key="flight_id",
    label=late,
    learner=learner,
    request=REQUEST,
    publish_every=timedelta(days=30),
)
