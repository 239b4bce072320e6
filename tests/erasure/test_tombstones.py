"""The file of tombstones: it names nobody, is never read wrongly, and grows by whole persons."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contracts.feast_bytes import entity_key
from dataflows.erasure.tombstones import (
    NOTHING_APPLIED,
    Tombstone,
    TombstoneError,
    Tombstones,
    no_tombstones,
    read_tombstones,
    tombstones_path,
    write_tombstones,
)

ANN = entity_key(["user"], ["string"], ["ann-of-the-hill"])


def _tombstone(known: Tombstones, **given: object) -> Tombstone:
    plain = Tombstone(
        0, ("user",), known.digest(ANN), "kafka", {"a": "t1"}, {"a/0": 5}, {}, "then", "me"
    )
    return msgspec.structs.replace(plain, **given)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Tombstones come back as they were, and nobody's key or spine key stands in the file."""
    state = tmp_path / "state"
    assert read_tombstones(state) is None
    known = no_tombstones()
    spine = known.spine_digest(2**64 - 1)
    added = known.added([_tombstone(known, spine_keys={"m": (spine,)})])
    write_tombstones(state, added)
    assert read_tombstones(state) == added
    assert added.tombstones[0].number == 1
    content = tombstones_path(state).read_bytes()
    assert b"ann" not in content
    assert str(2**64 - 1).encode() not in content
    assert tombstones_path(state).parent == state.parent


def test_each_file_has_a_salt_of_its_own() -> None:
    """The same person stands otherwise in another file."""
    first, second = no_tombstones(), no_tombstones()
    assert first.digest(ANN) != second.digest(ANN)
    assert first.spine_digest(7) != second.spine_digest(7)
    assert first.digest(ANN) == first.digest(bytes(ANN))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "put it back from a backup"),
        (b'{"salt": "xx", "tombstones": []}', "put it back from a backup"),
        (b'{"salt": "00", "tombstones": [], "format": 9}', "another version"),
    ],
)
def test_a_file_that_cannot_be_read_stops_everything(
    tmp_path: Path, content: bytes, says: str
) -> None:
    """To go on without it would bring people back."""
    tombstones_path(tmp_path / "state").write_bytes(content)
    with pytest.raises(TombstoneError, match=says):
        read_tombstones(tmp_path / "state")


def test_who_is_forgotten_again_has_one_tombstone() -> None:
    """It has a new number, and all that the older one knew of the same log."""
    known = no_tombstones()
    first = known.added([_tombstone(known, ends={"a/0": 5, "b/0": 9}, spine_keys={"m": ("x",)})])
    other = first.added([_tombstone(known, entity="bob")])
    again = other.added([_tombstone(known, ends={"a/0": 4, "a/1": 7}, spine_keys={"m": ("y",)})])
    assert [one.number for one in again.tombstones] == [2, 3]
    assert again.tombstones[1].ends == {"a/0": 5, "a/1": 7, "b/0": 9}
    assert again.tombstones[1].spine_keys == {"m": ("x", "y")}
    # Offsets of a topic that was made anew say nothing of the new one.
    anew = other.added([_tombstone(known, ends={"a/0": 1}, topics={"a": "t2"})])
    assert anew.tombstones[1].ends["a/0"] == 1


def test_state_hears_of_each_tombstone_once() -> None:
    """What a piece of state has applied is not new to it, unless the file is another one."""
    known = no_tombstones()
    first = known.added([_tombstone(known)])
    second = first.added([_tombstone(known, entity="bob")])
    assert [one.number for one in second.after(NOTHING_APPLIED).tombstones] == [1, 2]
    assert [one.number for one in second.after(first.newest).tombstones] == [2]
    assert not second.after(second.newest).tombstones
    assert len(second.after(("another file", 2)).tombstones) == 2
