"""Looking at an archive: what is told before anything is read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from contracts.log import LogError
from dataflows.sources.archive import survey
from dataflows.sources.archive_names import ArchiveName, parse_name
from tests.sources.archives import (
    archive_of,
    file_of,
    lines,
    name_of,
    orders,
    parquet,
    plan_of,
    put,
    settings_of,
    typed,
    valued,
)
from tests.sources.orders import AVRO, JSON

TEN = file_of("json", 0, orders(10))


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("a.b_c-d+12+0000000345.json", ArchiveName("a.b_c-d", 12, 345, None, "lines")),
        ("a+0+7.ndjson.gz", ArchiveName("a", 0, 7, None, "lines", "gzip")),
        ("a+0+7.jsonl.zst", ArchiveName("a", 0, 7, None, "lines", "zstd")),
        ("a+0+7.parquet", ArchiveName("a", 0, 7, None, "parquet")),
        ("a+0+7.snappy.parquet", ArchiveName("a", 0, 7, None, "parquet")),
        ("a+0+0000000007+0000000009.parquet", ArchiveName("a", 0, 7, 9, "parquet")),
        ("a+0+7.avro", ArchiveName("a", 0, 7, None, "other")),
        ("a+0+7.json.snappy", ArchiveName("a", 0, 7, None, "other")),
        ("a+0+7.json.crc.md5", None),
        ("a+0+7", None),
        ("a-0-7.json", None),
        ("_SUCCESS", None),
        ("a+x+7.json", None),
    ],
)
def test_names_are_those_of_kafka_connect(name: str, parsed: ArchiveName | None) -> None:
    """Topic, partition and offsets come out of the name; other names are nobody's."""
    assert parse_name(name) == parsed


def test_notes_say_what_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Unknown topics, other names, unfinished and empty files are counted and told."""
    url = str(tmp_path)
    put(url, name_of("json", 0), TEN)
    put(url, f"visits/{name_of('json', 0, 'visits')}", b"{}\n")
    put(url, "orders/_SUCCESS", b"")
    put(url, f"+tmp/{name_of('json', 10)}", b"{}\n")
    put(url, name_of("ndjson.gz", 10), gzip.compress(b""))
    put(url, name_of("typed", 10), parquet(typed([])))
    archive = archive_of(url)
    assert [file.end for file in archive.files["orders", 0]] == [10]
    assert archive.notes == (
        "1 files of visits, which no view reads",
        f"2 files of other names, such as {tmp_path}/+tmp/{name_of('json', 10)}",
        "2 files without records",
    )
    assert caplog.messages == [f"archive: left out are {note}" for note in archive.notes]


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        (
            12,
            r"orders/0 has no records from offset 10 \(after .*00.json\) to 11 \(before .*12.json",
        ),
        (9, r"orders/0 has records twice: .*00.json goes to offset 9, but .*09.json begins with 9"),
        (0, r"orders/0 has records twice: .*00.json goes to offset 0, but .*00.json begins with 0"),
    ],
)
def test_files_that_do_not_join_are_refused(tmp_path: Path, first: int, problem: str) -> None:
    """A gap or an overlap names both files and both offsets."""
    put(str(tmp_path), f"old/{name_of('json', 0)}", TEN)
    put(str(tmp_path), f"new/{name_of('json', first)}", b"{}\n")
    with pytest.raises(LogError, match=problem):
        archive_of(tmp_path)


ZIPPED = gzip.compress(TEN)
VALUES = [JSON.write(row) for row in orders(10)]


@pytest.mark.parametrize(
    ("form", "data", "problem"),
    [
        ("json", TEN[:-1], "does not end with a newline"),
        ("json", b"x" * (17 << 20), "a line of more than"),
        ("ndjson.gz", ZIPPED[:-4], "cannot be decompressed .Truncated"),
        ("ndjson.gz", ZIPPED[:20] + b"???" + ZIPPED[23:], "cannot be decompressed"),
        ("ndjson.gz", TEN, "cannot be decompressed"),
        ("jsonl.zst", TEN, "cannot be decompressed"),
        ("value", parquet(valued(VALUES))[:-9], "no whole Parquet file"),
        ("value", b"", "no whole Parquet file"),
        (
            "value",
            parquet(valued(VALUES, offset=pa.array(range(1, 11)))),
            "begins with offset 1, but its name says 0",
        ),
        ("value", parquet(valued(VALUES, offset=pa.array([0.5] * 10))), "'offset' .* is double"),
        ("value", parquet(valued(VALUES, offset=pa.array([None] * 10, pa.int64()))), "is missing"),
        (
            "value",
            parquet(pa.table({"x": [1]})),
            "neither a column 'value' .* nor their field 'user'",
        ),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, form: str, data: bytes, problem: str
) -> None:
    """Nothing of an archive is read if one of its files is cut off or is not what it should be."""
    put(str(tmp_path), name_of(form, 0), data)
    with pytest.raises(LogError, match=problem) as raised:
        archive_of(tmp_path)
    assert name_of(form, 0) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_with_two_offsets_are_held_to_both(tmp_path: Path) -> None:
    """The sink for HDFS writes the last offset too: a file with fewer records was cut off."""
    put(str(tmp_path), "orders+0+0+9.json", TEN)
    put(str(tmp_path), "orders+0+10+20.json", TEN)
    with pytest.raises(LogError, match="ends with offset 19 by its 10 records, but with 20"):
        archive_of(tmp_path)


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    """Records that cannot be read are no note: the log would have a hole."""
    put(str(tmp_path), name_of("json", 0), TEN)
    put(str(tmp_path), "orders+0+10.avro", TEN)
    with pytest.raises(LogError, match=r"orders\+0\+10.avro is of a kind that is not read"):
        archive_of(tmp_path)


def test_lines_hold_json_only(tmp_path: Path) -> None:
    """Records of Avro are looked for in Parquet."""
    put(str(tmp_path), name_of("json", 0), TEN)
    with pytest.raises(LogError, match=r"'orders' is avro with framing none: write Parquet"):
        archive_of(tmp_path, AVRO.topic)


@pytest.mark.parametrize("name", ["visits+0+0.json", "README.md", ""])
def test_an_archive_without_files_is_refused(tmp_path: Path, name: str) -> None:
    """It is taken for a wrong address."""
    if name:
        put(str(tmp_path), name, b"{}\n")
    with pytest.raises(LogError, match=r"has no file of orders.*: look at HEADWATER_ARCHIVE_URL"):
        archive_of(tmp_path)


def test_progress_is_told_by_files(tmp_path: Path) -> None:
    """Each file that was looked at counts, up to all of them."""
    for first in range(5):
        put(str(tmp_path), name_of("json", first), lines([b"{}"]))
    told: list[tuple[int, int]] = []
    survey(
        settings_of(tmp_path),
        plan_of(JSON.topic),
        progress=lambda done, of_all: told.append((done, of_all)),
    )
    assert told == [(done, 5) for done in range(1, 6)]
