"""The SQLite writer and reader against each other and against Feast's own SDK, both ways."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contracts.feast_bytes import encode_value, entity_key
from contracts.plan import Aggregate, View
from dataflows.stores.online_writer import OnlineStoreError
from dataflows.stores.sqlite_writer import SqliteOnlineWriter
from scorer.errors import StoreUnavailableError
from scorer.online_store import wanted as want
from scorer.sqlite_reader import SqliteReader
from tests.scorer.found import Found, read_found
from tests.stores.shop import FEATURES, PROJECT, VIEW, Shop

pytestmark = pytest.mark.filterwarnings("ignore:Stream feature views are experimental")

SECOND_US = 1_000_000
T0_US = 1_357_000_000 * SECOND_US + 123_457
NAN = math.nan


def key(origin: str, carrier: int) -> bytes:
    """The entity key of a route."""
    return entity_key(VIEW.join_keys, VIEW.join_key_types, (origin, carrier))


def write(
    writer: SqliteOnlineWriter,
    rows: Sequence[tuple[bytes, int, Sequence[float]]],
    view: View = VIEW,
) -> None:
    """Write (key, stamp, values) rows and commit."""
    writer.write(
        view,
        [row[0] for row in rows],
        np.array([row[1] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.float64),
    )
    writer.commit()


def read(path: Path, *keys: bytes, features: tuple[str, ...] = FEATURES) -> list[Found]:
    """Read entities with a reader of their own."""

    async def once() -> list[Found]:
        reader = SqliteReader(path, PROJECT)
        try:
            return await read_found(reader, [want(VIEW.name, features, one) for one in keys])
        finally:
            await reader.close()

    return asyncio.run(once())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the online store will be."""
    return tmp_path / "online.db"


@pytest.fixture
def writer(path: Path) -> Iterator[SqliteOnlineWriter]:
    """A writer on an empty store."""
    writer = SqliteOnlineWriter(path, PROJECT)
    yield writer
    writer.close()


def test_feast_reads_what_we_write(shop: Shop) -> None:
    """Feast's get_online_features returns our values with their types, nulls and seconds."""
    writer = SqliteOnlineWriter(shop.online_path, PROJECT)
    write(
        writer,
        [
            (key("JFK", 1), T0_US, (2.5, 7, 1)),
            (key("LGA", -2), T0_US + 5 * SECOND_US, (NAN, -3, 0)),
            (key("LGA", 3), T0_US, (-0.0, 2**40, NAN)),
        ],
    )
    rows = [("JFK", 1), ("LGA", -2), ("LGA", 3), ("EWR", 1)]
    answer = shop.store.get_online_features(
        features=[f"{VIEW.name}:{name}" for name in FEATURES],
        entity_rows=[{"origin": origin, "carrier_id": carrier} for origin, carrier in rows],
    ).to_dict(include_event_timestamps=True)
    writer.close()
    assert answer["delay_mean"] == [2.5, None, -0.0, None]
    assert answer["flights"] == [7, -3, 2**40, None]
    assert answer["last_diverted"] == [True, False, None, None]
    assert answer["last_diverted"][0] is True
    seconds = T0_US // SECOND_US
    assert answer["flights__ts"] == [seconds, seconds + 5, seconds, 0]


def test_we_read_what_feast_writes(shop: Shop) -> None:
    """Our reader returns what Feast put there, even an older value over a newer one of ours."""
    writer = SqliteOnlineWriter(shop.online_path, PROJECT)
    write(
        writer,
        [(key("JFK", 1), T0_US + 20 * SECOND_US, (9.0, 9, 0)), (key("EWR", 5), T0_US, (1.0, 2, 0))],
    )
    stamps = [T0_US + 10 * SECOND_US, T0_US + 3 * SECOND_US]
    frame = pd.DataFrame(
        {
            "origin": ["JFK", "LGA"],
            "carrier_id": [1, -2],
            "delay_mean": [0.25, NAN],
            "flights": [4, -1],
            "last_diverted": [True, False],
            "event_timestamp": pd.to_datetime(stamps, unit="us", utc=True),
        }
    )
    shop.store.write_to_online_store(VIEW.name, frame)
    found = read(shop.online_path, key("JFK", 1), key("LGA", -2), key("EWR", 5), key("X", 0))
    assert found == [
        Found(stamps[0] // SECOND_US * SECOND_US, [0.25, 4.0, 1.0]),
        Found(stamps[1] // SECOND_US * SECOND_US, [None, -1.0, 0.0]),
        Found(T0_US, [1.0, 2.0, 0.0]),
        Found(None, [None, None, None]),
    ]
    write(writer, [(key("JFK", 1), T0_US + 9 * SECOND_US, (5.0, 5, 0))])
    assert read(shop.online_path, key("JFK", 1)) == found[:1], "older than Feast's row"
    write(writer, [(key("JFK", 1), T0_US + 11 * SECOND_US, (5.0, 5, 0))])
    assert read(shop.online_path, key("JFK", 1)) == [Found(T0_US + 11 * SECOND_US, [5.0, 5.0, 0.0])]
    writer.close()


def test_feast_apply_keeps_what_we_wrote(shop: Shop) -> None:
    """Applying again after our column was added changes neither values nor stamps."""
    writer = SqliteOnlineWriter(shop.online_path, PROJECT)
    write(writer, [(key("JFK", 1), T0_US, (2.5, 7, 1))])
    shop.store.apply([*shop.store.list_entities(), *shop.store.list_stream_feature_views()])
    writer.close()
    assert read(shop.online_path, key("JFK", 1)) == [Found(T0_US, [2.5, 7.0, 1.0])]


def test_our_table_has_feasts_columns(shop: Shop, tmp_path: Path) -> None:
    """A table made by us differs from one made by Feast only in our last column."""
    ours = tmp_path / "ours.db"
    writer = SqliteOnlineWriter(ours, PROJECT)
    writer.ensure_table(VIEW)
    writer.close()

    def shape(file: Path) -> tuple[list[tuple[object, ...]], list[str]]:
        connection = sqlite3.connect(file)
        columns = connection.execute(f"PRAGMA table_info({PROJECT}_{VIEW.name})").fetchall()
        indexes = connection.execute(f"PRAGMA index_list({PROJECT}_{VIEW.name})").fetchall()
        connection.close()
        return [column[1:] for column in columns], sorted(row[1] for row in indexes)

    columns, indexes = shape(ours)
    assert columns[-1][0] == "event_us"
    assert (columns[:-1], indexes) == shape(shop.online_path)


def test_older_row_never_replaces_a_newer_one(writer: SqliteOnlineWriter, path: Path) -> None:
    """In whatever order rows come, the newest by the microsecond stays; an equal stamp replaces."""
    jfk = key("JFK", 1)
    write(writer, [(jfk, T0_US, (1.0, 1, 0))])
    write(writer, [(jfk, T0_US - 1, (2.0, 2, 0))])
    assert read(path, jfk) == [Found(T0_US, [1.0, 1.0, 0.0])]
    write(writer, [(jfk, T0_US + 2, (4.0, 4, 0)), (jfk, T0_US + 1, (3.0, 3, 0))])
    assert read(path, jfk) == [Found(T0_US + 2, [4.0, 4.0, 0.0])]
    write(writer, [(jfk, T0_US + 2, (NAN, 5, 1))])
    assert read(path, jfk) == [Found(T0_US + 2, [None, 5.0, 1.0])]


def test_nothing_is_visible_before_commit(writer: SqliteOnlineWriter, path: Path) -> None:
    """Staged rows of several views are invisible until commit, and gone after a close without."""
    other = dataclasses.replace(VIEW, name="other")
    jfk, stamps, values = [key("JFK", 1)], np.array([T0_US]), np.array([[1.0, 2.0, 0.0]])
    for view in (VIEW, other):
        writer.ensure_table(view)
        assert writer.write(view, jfk, stamps, values) == 1
        writer.commit()
    writer.write(VIEW, jfk, stamps + 1, values + 1)
    writer.write(other, jfk, stamps + 1, values + 1)
    assert read(path, *jfk) == [Found(T0_US, [1.0, 2.0, 0.0])]
    writer.close()
    assert read(path, *jfk) == [Found(T0_US, [1.0, 2.0, 0.0])]


def test_second_writer_gives_up_after_its_wait(writer: SqliteOnlineWriter, path: Path) -> None:
    """A writer that finds the file locked says so after its bounded wait, and can go on later."""
    writer.ensure_table(VIEW)
    second = SqliteOnlineWriter(path, PROJECT, busy_seconds=0.05)
    second.ensure_table(VIEW)
    row = ([key("JFK", 1)], np.array([T0_US]), np.array([[1.0, 2.0, 0.0]]))
    writer.write(VIEW, *row)
    with pytest.raises(OnlineStoreError, match=r"was locked for 0\.05 s: another process"):
        second.write(VIEW, *row)
    writer.commit()
    assert second.write(VIEW, *row) == 1
    second.close()


def test_writer_refuses_what_is_no_database(tmp_path: Path) -> None:
    """A file that is not SQLite is an error that says how to go on."""
    path = tmp_path / "online.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(OnlineStoreError, match="rebuild it with `headwater replay`"):
        SqliteOnlineWriter(path, PROJECT)


def test_writer_refuses_wrong_shapes(writer: SqliteOnlineWriter) -> None:
    """Values that do not line up with the view's aggregates are refused naming the view."""
    with pytest.raises(ValueError, match="route_delays"):
        writer.write(VIEW, [key("JFK", 1)], np.array([T0_US]), np.zeros((1, 2)))


def test_a_text_without_its_list_is_refused(writer: SqliteOnlineWriter, path: Path) -> None:
    """A string's value that is no place in the texts is an error, and nothing is written."""
    view = dataclasses.replace(VIEW, aggregates=(Aggregate("town", "string", "x", "last", 0, 0),))
    row = ([key("JFK", 1)], np.array([T0_US]), np.array([[1.0]]))
    for texts in ((), ("a",)):
        with pytest.raises(ValueError, match=f"1 is no place in a list of {len(texts)} strings"):
            writer.write(view, *row, texts)
    writer.commit()
    assert read(path, key("JFK", 1), features=("town",)) == [Found(None, [None])]
    writer.write(view, *row, ("a", "b"))
    writer.commit()
    with pytest.raises(StoreUnavailableError, match="town holds text"):
        read(path, key("JFK", 1), features=("town",))


def test_missing_table_and_feature_are_absent(writer: SqliteOnlineWriter, path: Path) -> None:
    """A view that was not written yet has no entities; an unknown feature of a row is null."""
    jfk = key("JFK", 1)
    assert read(path, jfk) == [Found(None, [None] * 3)]
    write(writer, [(jfk, T0_US, (1.0, 1, 0))])
    assert read(path, jfk, features=("unheard", "flights")) == [Found(T0_US, [None, 1.0])]


def test_reader_lives_through_missing_new_and_replaced_files(path: Path) -> None:
    """One reader reports a missing file, reads it, and after a wipe reads the file made anew."""
    jfk = key("JFK", 1)
    wanted = [want(VIEW.name, FEATURES, jfk)]

    async def story() -> None:
        reader = SqliteReader(path, PROJECT)
        with pytest.raises(StoreUnavailableError, match="headwater run"):
            await read_found(reader, wanted)
        first = SqliteOnlineWriter(path, PROJECT)
        assert (await read_found(reader, wanted))[0].event_time_us is None
        write(first, [(jfk, T0_US, (1.0, 1, 0))])
        assert (await read_found(reader, wanted))[0] == Found(T0_US, [1.0, 1.0, 0.0])
        first.close()
        assert (await read_found(reader, wanted))[0] == Found(T0_US, [1.0, 1.0, 0.0])
        for file in path.parent.glob("online.db*"):
            file.unlink()
        second = SqliteOnlineWriter(path, PROJECT)
        write(second, [(jfk, T0_US, (2.0, 2, 0))])
        second.close()
        assert (await read_found(reader, wanted))[0] == Found(T0_US, [2.0, 2.0, 0.0])
        await reader.close()
        with pytest.raises(StoreUnavailableError, match="closed"):
            await read_found(reader, wanted)

    asyncio.run(story())


def test_reader_sees_all_of_a_commit_or_nothing(path: Path) -> None:
    """While another thread commits, all features of all entities of a read are of one commit."""
    keys = [key("JFK", carrier) for carrier in range(3)]
    enough = threading.Event()

    def commit_on() -> None:
        writer = SqliteOnlineWriter(path, PROJECT)
        for step in range(100_000):
            if enough.is_set():
                break
            for one in keys:
                writer.write(VIEW, [one], np.array([T0_US + step]), np.full((1, 3), float(step)))
            writer.commit()
        writer.close()

    async def read_on() -> None:
        reader = SqliteReader(path, PROJECT)
        wanted = [want(VIEW.name, ("delay_mean", "flights"), one) for one in keys]
        commits = set()
        for _ in range(100_000):
            values = {value for one in await read_found(reader, wanted) for value in one.values}
            assert len(values) == 1
            commits |= values
            if len(commits) == 100:
                break
        await reader.close()
        assert len(commits) == 100

    with ThreadPoolExecutor(1) as thread:
        SqliteOnlineWriter(path, PROJECT).close()
        writing = thread.submit(commit_on)
        try:
            asyncio.run(read_on())
        finally:
            enough.set()
        writing.result()


def test_text_feature_is_refused_by_name(writer: SqliteOnlineWriter, path: Path) -> None:
    """A feature that holds text is an error naming view and feature."""
    jfk = key("JFK", 1)
    write(writer, [(jfk, T0_US, (1.0, 1, 0))])
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            f"UPDATE {PROJECT}_{VIEW.name} SET value = ? WHERE feature_name = 'flights'",
            (encode_value("string", "many"),),
        )
    connection.close()
    with pytest.raises(StoreUnavailableError, match="route_delays:flights holds text"):
        read(path, jfk)
    assert read(path, jfk, features=("delay_mean",)) == [Found(T0_US, [1.0])]


def test_broken_file_is_unavailable(path: Path) -> None:
    """A file that is no database is reported as a store that cannot be read."""
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(StoreUnavailableError, match="cannot be read"):
        read(path, key("JFK", 1))
