"""The hourly weather at the airports of New York in 2013, as records of the log."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

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
    """Columns ``event_timestamp`` (int64, microseconds since 1970 UTC), ``origin`` and measures.

    Sorted by time, then origin; each measure is a double or null. Units are the file's:
    Fahrenheit, per cent, degrees, miles per hour, inches, millibars, miles.
    """
    weather = pd.read_csv(path)
    observed = pd.to_datetime(weather["time_hour"], utc=True).astype("datetime64[us, UTC]")
    rows = weather[["origin", *MEASURES]].astype(dict.fromkeys(MEASURES, "float64"))
    rows.insert(0, "event_timestamp", observed.astype("int64"))
    for wind in ("wind_speed", "wind_gust"):
        rows[wind] = rows[wind].where(rows[wind] <= WIND_MPH_MAX)
    rows = rows.sort_values(["event_timestamp", "origin"], kind="stable", ignore_index=True)
    return pa.Table.from_pandas(rows, preserve_index=False)
