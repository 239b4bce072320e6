"""Parquet of an archive: bytes of records, or a column for each field."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.log import Chunk, LogError
from contracts.plan import Column, Topic
from dataflows.sources.archive import ArchivedFile
from dataflows.sources.archive_patience import Patience
from dataflows.sources.archive_store import ArchiveStore
from dataflows.sources.chunks import joined_chunks
from dataflows.sources.decoding import make_decoder
from tests.sources.archives import archive_of, name_of, orders, parquet, put, typed, valued
from tests.sources.orders import AVRO, JSON, PROTOBUF, ROWS, Format, assert_same

COLUMNS = (
    Column("name", "string", True),
    Column("whole", "int64", True),
    Column("number", "float64", True),
    Column("flag", "bool", True),
    Column("at", "timestamp", True),
    Column("value", "string", True),
)
LOOSE = Topic("loose", COLUMNS, "at", 0, "name")
LARGEST = 2**63 - 1
FINE = 1 << 20
TIMES = ["2013-01-31T23:59:00.123456Z", "2013-02-01T01:00:00+01:00", None]


def chunk_of(folder: Path, topic: Topic, file: bytes, begin: int = 0, size: int = FINE) -> Chunk:
    """All records of a file, from an offset on."""
    archived = file_of(folder, topic, file)
    store = ArchiveStore(str(folder), Patience(1))
    return joined_chunks(list(archived.chunks(store, begin, size)))


def file_of(folder: Path, topic: Topic, file: bytes) -> ArchivedFile:
    """A file that was looked at."""
    put(str(folder), name_of("typed", 0, topic.name), file)
    return archive_of(folder, topic).files[topic.name, 0][0]


def texts(folder: Path, table: pa.Table, topic: Topic = LOOSE) -> list[str]:
    """The records of a file with columns."""
    chunk = chunk_of(folder, topic, parquet(table))
    return [chunk.record(i).decode() for i in range(len(chunk.starts))]


@settings(max_examples=40)
@given(rows=st.lists(ROWS, min_size=1, max_size=30), size=st.sampled_from([1, 200, FINE]))
def test_columns_are_decoded_as_the_records_are(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], size: int
) -> None:
    """To the last bit, whatever the values are."""
    folder = tmp_path_factory.mktemp("archive")
    chunk = chunk_of(folder, JSON.topic, parquet(typed(rows), 7), size=size)
    assert_same(
        make_decoder(JSON.topic).decode(chunk), JSON.decode([JSON.write(row) for row in rows])
    )


@pytest.mark.parametrize("form", [JSON, AVRO, AVRO.framed, PROTOBUF], ids=["j", "a", "f", "p"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_bytes_of_any_format_stay_what_they_are(
    tmp_path: Path, form: Format, kind: pa.DataType
) -> None:
    """A column of bytes holds what stood in Kafka; what is null there is an empty record."""
    records = [form.write(row) for row in orders(10)]
    table = pa.table({"value": pa.array([*records, None, b""], kind), "key": ["k"] * 12})
    chunk = chunk_of(tmp_path, form.topic, parquet(table, 5))
    assert [chunk.record(i) for i in range(12)] == [*records, b"", b""]
    assert chunk.times_ms is None


def test_offsets_may_have_holes(tmp_path: Path) -> None:
    """Control records and what was compacted away have offsets too; times are those of Kafka."""
    records = [b"a", b"b", b"c", b"d"]
    table = valued(records, offset=[0, 2, 3, 9], timestamp=pa.array([5, 6, 7, 8], pa.int64()))
    for begin, found in ((0, 0), (1, 1), (2, 1), (4, 3), (9, 3)):
        chunk = chunk_of(tmp_path, JSON.topic, parquet(table, 2), begin)
        assert chunk.offsets.tolist() == [0, 2, 3, 9][found:]
        assert chunk.times_ms is not None
        assert chunk.times_ms.tolist() == [5, 6, 7, 8][found:]
        assert (chunk.record(0), chunk.next_offset) == (records[found], 10)


@pytest.mark.parametrize("offsets", [[0, 2, 2, 3], [0, 3, 2, 4]])
def test_offsets_rise(tmp_path: Path, offsets: list[int]) -> None:
    """A file that is not sorted by offset is refused, also between its groups."""
    table = valued([b"a", b"b", b"c", b"d"], offset=offsets)
    for rows in (2, 4):
        with pytest.raises(LogError, match="offsets do not rise after"):
            chunk_of(tmp_path, JSON.topic, parquet(table, rows))


def test_a_file_is_read_on_from_its_middle(tmp_path: Path) -> None:
    """Wherever it was left, in whatever pieces."""
    records = [JSON.write(row) for row in orders(20)]
    for begin in range(20):
        for size in (1, 300, FINE):
            chunk = chunk_of(tmp_path, JSON.topic, parquet(valued(records), 6), begin, size)
            assert chunk.offsets.tolist() == list(range(begin, 20))
            assert [chunk.record(i) for i in range(20 - begin)] == records[begin:]


@pytest.mark.parametrize(
    ("name", "array", "written"),
    [
        ("whole", pa.array([LARGEST, -(2**63), None]), [f"{LARGEST}", f"{-(2**63)}", "null"]),
        ("whole", pa.array([7], pa.uint8()), ["7"]),
        ("whole", pa.array([Decimal(12)], pa.decimal128(38, 0)), ["12"]),
        ("number", pa.array([0.1, float("nan"), None]), ["0.1", "null", "null"]),
        ("number", pa.array([float("-inf"), 1e300]), ["Infinity", "1e300"]),
        ("number", pa.array([3], pa.int16()), ["3"]),
        ("number", pa.array([Decimal("0.10")], pa.decimal128(38, 2)), ["0.10"]),
        ("number", pa.array([1.5], pa.float32()), ["1.5"]),
        ("flag", pa.array([True, False, None]), ["true", "false", "null"]),
        ("name", pa.array(["a", 'b"\n', None]), ['"a"', '"b\\"\\n"', "null"]),
        ("name", pa.array(["a", "a"]).dictionary_encode(), ['"a"', '"a"']),
        ("name", pa.array(["a"], pa.large_string()), ['"a"']),
        ("name", pa.array([None]), ["null"]),
        (
            "at",
            pa.array([1_356_998_400_123, None], pa.timestamp("ms", tz="Europe/Berlin")),
            ['"2013-01-01 00:00:00.123000Z"', "null"],
        ),
        ("at", pa.array([1_000], pa.timestamp("ns", tz="UTC")), ['"1970-01-01 00:00:00.000001Z"']),
        ("at", pa.array(TIMES[:1]), [f'"{TIMES[0]}"']),
    ],
)
def test_values_become_json(tmp_path: Path, name: str, array: pa.Array, written: list[str]) -> None:
    """Each as a producer would have written it; infinity makes the record a bad one."""
    # In one file all columns stand, so that no field is taken for the record itself.
    found = texts(tmp_path, pa.table({name: array}))
    assert found == [f'{{"{name}":{text}}}' for text in written]
    for text in found:
        if "Infinity" not in text:
            json.loads(text)


@pytest.mark.parametrize(
    ("name", "array", "problem"),
    [
        ("whole", pa.array([1.0]), "column 'whole' is double, but the field must be an integer"),
        ("whole", pa.array([Decimal("0.5")]), "must be an integer"),
        ("number", pa.array(["1"]), "must be a number"),
        ("flag", pa.array([1]), "must be a boolean"),
        ("name", pa.array([1]), "must be a string"),
        ("name", pa.array([b"1"]), "column 'name' is binary, but the field must be a string"),
        ("name", pa.array([["a"]]), "column 'name' is list.* must be a string"),
        ("number", pa.array([{"a": 1.0}]), "column 'number' is struct.* must be a number"),
        ("at", pa.array([1], pa.timestamp("us")), "must be a timestamp in UTC"),
        ("at", pa.array([1], pa.date32()), "must be a timestamp in UTC"),
        ("at", pa.array([1]), "must be a timestamp in UTC"),
        ("at", pa.array([1], pa.timestamp("ns", tz="UTC")), "a value that no record can have"),
    ],
)
def test_columns_of_other_types_are_refused(
    tmp_path: Path, name: str, array: pa.Array, problem: str
) -> None:
    """Nothing is made to fit: the column, its type and the one that is wanted are named."""
    with pytest.raises(LogError, match=problem):
        texts(tmp_path, pa.table({name: array}))


def test_columns_that_nobody_reads_may_be_anything(tmp_path: Path) -> None:
    """They are not even read."""
    table = pa.table({"name": ["a"], "tags": [["x"]], "value": [1]})
    topic = replace(LOOSE, columns=COLUMNS[:5])
    assert texts(tmp_path, table, topic) == ['{"name":"a"}']


@pytest.mark.parametrize("column", ["user", "at"])
def test_fields_that_must_be_there_must_be_columns(tmp_path: Path, column: str) -> None:
    """The first one that is missing is named; a null in one makes a bad record, as in Kafka."""
    with pytest.raises(LogError, match=f"nor their field '{column}'"):
        texts(tmp_path, typed(orders(3)).drop_columns([column]), JSON.topic)
    nothing = typed(orders(3))
    place = nothing.column_names.index(column)
    kind = nothing.schema.field(column).type
    nothing = nothing.set_column(place, column, pa.array([None] * 3, kind))
    chunk = chunk_of(tmp_path, JSON.topic, parquet(nothing))
    assert len(make_decoder(JSON.topic).decode(chunk).bad) == 3


def test_columns_are_json_only(tmp_path: Path) -> None:
    """A topic of Avro is archived by the bytes of its records."""
    with pytest.raises(LogError, match=r"has columns, but 'orders' holds avro .* column 'value'"):
        texts(tmp_path, typed(orders(3)), AVRO.topic)


def test_a_field_may_be_called_value(tmp_path: Path) -> None:
    """It is the record's bytes only where the record's fields are not there themselves."""
    topic = replace(LOOSE, columns=(Column("at", "timestamp", False), COLUMNS[5]))
    table = pa.table({"at": TIMES[:2], "value": ["v", "w"]})
    assert texts(tmp_path, table, topic)[1] == '{"at":"2013-02-01T01:00:00+01:00","value":"w"}'
    record = '{"at":"2013-02-01T01:00:00+01:00"}'
    assert texts(tmp_path, pa.table({"value": [record]}), topic) == [record]
