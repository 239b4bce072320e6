"""The hourly weather at the airports of New York in 2013, as records of the log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cli.demo.csv_files import TIME_FIELD, read_csv

WEATHER_TOPIC = "weather.observed"

MEASURES = (
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
)
# The strongest gust ever measured is 253 mph; one row of the file says 1,048. A scaler that has
# learned such a value never recovers, so it counts as not measured.
WIND_MPH_MAX = 253.0


def weather_records(path: Path) -> pa.Table:
    """Columns ``origin``, ``event_timestamp`` (int64, microseconds since 1970 UTC) and measures.

    Sorted by time, then origin; each measure is a double or null. Units are the file's:
    Fahrenheit, per cent, degrees, miles per hour, inches, millibars, miles.
    """
    types = {"origin": pa.string(), "time_hour": pa.timestamp("s", "UTC")}
    weather = read_csv(path, types | dict.fromkeys(MEASURES, pa.float64()))
    observed_us = weather["time_hour"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    columns = {"origin": weather["origin"], TIME_FIELD: observed_us}
    columns |= {measure: weather[measure] for measure in MEASURES}
    for wind in ("wind_speed", "wind_gust"):
        possible = pc.less_equal(weather[wind], WIND_MPH_MAX)
        columns[wind] = pc.if_else(possible, weather[wind], None)
    order = np.lexsort((weather["origin"].to_numpy(), observed_us.to_numpy()))
    return pa.table(columns).take(order)
