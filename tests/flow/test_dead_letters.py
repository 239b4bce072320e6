"""Dead letters that come again, after a crash or a replay, are there once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataflows.batches import DeadLetter
from dataflows.sources.dead_letters import FileDeadLetters
from tests.flow import shop
from tests.flow.conftest import Run

LETTERS = [
    DeadLetter("orders", 0, 0, b"no json", "not JSON"),
    DeadLetter("orders", 1, 0, b"no json", "not JSON"),
    DeadLetter("orders", 0, 8, b"\xff\xfe", "not UTF-8"),
    DeadLetter("orders", 0, 11, b"", "empty"),
]


@pytest.fixture
def topic(tmp_path: Path) -> Path:
    """The file of the dead letters."""
    return tmp_path / "orders.dlq" / "0.ndjson"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[DeadLetter]], None]:
    """Writes letters as a process of its own does."""

    def write_batch(letters: list[DeadLetter]) -> None:
        part = FileDeadLetters(tmp_path, "orders")
        part.append(letters)
        part.close()

    return write_batch


def _letters(path: Path) -> Iterator[tuple[int, int, str]]:
    for line in path.read_bytes().splitlines():
        letter = json.loads(line)
        record = letter.get("record", letter.get("record_base64"))
        yield letter["partition"], letter["offset"], record


def test_letters_that_come_again(topic: Path, write: Callable[[list[DeadLetter]], None]) -> None:
    """The same letters from the next process, and within one, change nothing."""
    write(LETTERS)
    before = topic.read_bytes()
    assert len(before.splitlines()) == len(LETTERS)
    write(LETTERS[::-1])
    assert topic.read_bytes() == before
    part = FileDeadLetters(topic.parents[1], "orders")
    part.append(LETTERS[:2])
    part.append(LETTERS)
    assert part.snapshot() == 0
    part.close()
    assert topic.read_bytes() == before


def test_another_record_at_that_place(
    topic: Path, write: Callable[[list[DeadLetter]], None]
) -> None:
    """A log that was replaced has other records at the same offsets: these are letters too."""
    write(LETTERS)
    write([DeadLetter("orders", 0, 0, b"other", "not JSON")])
    found = list(_letters(topic))
    assert len(found) == len(LETTERS) + 1
    assert found[-1] == (0, 0, "other")


@pytest.mark.parametrize(
    "line",
    [
        b"rubbish",
        b"",
        b"[]",
        b"3",
        b"null",
        b'{"a": 1}',
        b"\xff\xfe",
        b'{"partition": 0}',
        b'{"partition": [0], "offset": {}}',
        b'{"partition": 0, "offset": 0, "record": []}',
    ],
)
def test_foreign_lines(topic: Path, write: Callable[[list[DeadLetter]], None], line: bytes) -> None:
    """Lines that are no letters of ours stay where they are and hide no letter."""
    topic.parent.mkdir()
    topic.write_bytes(line + b"\n")
    write(LETTERS)
    write(LETTERS)
    found = topic.read_bytes().splitlines()
    assert found[0] == line
    assert len(found) == 1 + len(LETTERS)


def test_a_torn_letter_is_written_again(
    topic: Path, write: Callable[[list[DeadLetter]], None]
) -> None:
    """A letter cut short by a crash does not count; the one after it begins on its own line."""
    write(LETTERS)
    whole = topic.read_bytes()
    topic.write_bytes(whole[:-9])
    write(LETTERS)
    lines = topic.read_bytes().splitlines()
    assert len(lines) == len(LETTERS) + 1
    del lines[len(LETTERS) - 1]
    assert lines == whole.splitlines()


def test_state_that_is_lost_brings_no_letter_twice(new_log: Path, tmp_path: Path, run: Run) -> None:
    """Running the whole log again from nothing finds the letters that are there already."""
    run(new_log, tmp_path / "out")
    before = sorted(map(json.dumps, shop.dead_letters(new_log)))
    assert len(before) > 10
    run(new_log, tmp_path / "other")
    assert sorted(map(json.dumps, shop.dead_letters(new_log))) == before
