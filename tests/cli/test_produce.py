"""`headwater produce`: lines into the file log."""

from __future__ import annotations

import json
import time
from pathlib import Path
from zlib import crc32

import pytest

from cli.main import main
from cli.records import RecordReader
from tests.cli.rides import SECONDS_MAX, Rides, asked, done, lines


def _produce(rides: Rides, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["produce", *words, "--repo", str(rides.folder)])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_a_file_arrives_byte_for_byte(
    rides: Rides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records stand in the log as in the file, behind those that were there; empty lines do not."""
    text = lines([asked(i) for i in range(1000)])
    file = tmp_path / "asked.ndjson"
    file.write_text("\n" + text.rstrip("\n"))
    for _ in range(2):
        assert _produce(rides, "rides.asked", str(file)) == 0
        assert "1,000 records written to rides.asked" in capsys.readouterr().err
    assert rides.partition("rides.asked").read_text() == text * 2


@pytest.mark.parametrize("bad", ["[1]", "{", "17", '{"a": NaN}', '{"a": 1} {"b": 2}'])
def test_the_first_bad_line_ends_it(rides: Rides, bad: str) -> None:
    """What stands before a bad line is written, nothing behind it, and the line is named."""
    good = lines([asked(i) for i in range(3)])
    result = rides.headwater("produce", "t", "--repo", ".", given=good + bad + "\n" + good)
    assert result.returncode == 1
    assert result.stderr.startswith("headwater: standard input: line 4 ")
    assert "3 records before it were written to t" in result.stderr
    assert rides.partition("t").read_text() == good


def test_the_key_field_of_the_plan_chooses_the_partition(ran: Rides, tmp_path: Path) -> None:
    """Records go to the partition that the hash of the topic's key field says."""
    log = tmp_path / "log"
    (log / "rides.done").mkdir(parents=True)
    for number in range(3):
        (log / "rides.done" / f"{number}.ndjson").touch()
    elsewhere = Rides(ran.folder, {"HEADWATER_LOG_URL": log.as_uri()})
    records = [done(i) for i in range(20)]
    assert elsewhere.headwater("produce", "rides.done", given=lines(records)).returncode == 0
    for number in range(3):
        expected = [r for r in records if crc32(str(r["city"]).encode()) % 3 == number]
        assert (log / "rides.done" / f"{number}.ndjson").read_text() == lines(expected)


def test_a_slow_pipe_is_not_held_back(rides: Rides) -> None:
    """A record is in the log as soon as it came through the pipe, not only at its end."""
    with rides.started("produce", "slow") as process:
        assert process.stdin is not None
        for written in ('{"a":0}\n', '{"a":0}\n{"a":1}\n'):
            process.stdin.write(written[-8:])
            process.stdin.flush()
            _wait_until_it_holds(rides.partition("slow"), written)
        process.stdin.close()
        assert process.wait(SECONDS_MAX) == 0


def _wait_until_it_holds(file: Path, text: str) -> None:
    end = time.monotonic() + SECONDS_MAX
    while not file.exists() or file.read_text() != text:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_do_not_matter(size: int) -> None:
    """However a stream comes in pieces, its records and the number of its bad line are the same."""
    data = lines([asked(i) for i in range(20)]).encode() + b"\n{\n{}\n"
    pieces = iter([data[i : i + size] for i in range(0, len(data), size)])
    reader = RecordReader(lambda _: next(pieces, b""), "city")
    found = list(reader.blocks())
    records = [record for block, _ in found for record in block]
    assert records == [(str(asked(i)["city"]), json.dumps(asked(i)).encode()) for i in range(20)]
    errors = [error for _, error in found if error is not None]
    assert [error.line for error in errors] == [22]


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is no text of lines is given up at the length that the log can hold."""
    monkeypatch.setattr("cli.records.RECORD_BYTES_MAX", 100)
    reader = RecordReader(lambda _: b"x" * 30, None)
    ((_, error),) = reader.blocks()
    assert error is not None
    assert "longer than" in str(error)
    assert reader.bytes_read < 200


@pytest.mark.parametrize("topic", ["../up", "a/b", "..", "", "a b"])
def test_topics_stay_in_the_log(rides: Rides, topic: str) -> None:
    """A name that would lead out of the log's folder is a usage error."""
    assert _produce(rides, topic, __file__) == 2
    assert not (rides.folder / "data").exists()
