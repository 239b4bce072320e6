"""Bases in pieces: what is needed stays, what is not goes, and no epoch writes very much."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.laps import PIECES, Laps

LARGE = 100_000_000
# Entities that are new, and bytes of changes.
EPOCHS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, LARGE)), min_size=1, max_size=150)


@given(st.integers(0, 1_000), EPOCHS, st.booleans())
def test_the_files_of_a_handle_tell_of_every_entity(
    entities: int, epochs: list[tuple[int, int]], resumes: bool
) -> None:
    """However many come and change, each entity is whole in some file that is still needed."""
    laps = Laps(LARGE)
    # Of each file what it has whole: what was new then, and the pieces that it has.
    files: list[tuple[dict[str, Any], set[int]]] = [({}, set(range(entities)))]
    end = 0
    for new, changed_bytes in epochs:
        pieces = laps.pieces
        begin = 0 if pieces.start == 0 else end
        whole = set(range(entities, entities + new))
        entities += new
        end = entities * pieces.stop // PIECES
        whole |= set(range(begin, end))
        needless = laps.go_on(pieces, LARGE * len(pieces) // PIECES)
        files = [*files[needless:], ({"lap": laps.saved}, whole)]
        laps.weigh(changed_bytes)
        assert set().union(*(some for _, some in files)) == set(range(entities))
        assert len(files) <= 66
        if resumes:
            laps = Laps.resumed([part for part, _ in files], LARGE)


@pytest.mark.parametrize("share", [0.001, 0.03, 0.1, 0.5])
def test_a_resume_reads_the_base_and_about_twice_as_much(share: float) -> None:
    """The more an epoch changes, the more pieces it writes: changes that are needed stay few."""
    laps = Laps(LARGE)
    changes = [0]
    for _ in range(400):
        pieces = laps.pieces
        needless = laps.go_on(pieces, LARGE * len(pieces) // PIECES)
        changes = [*changes[needless:], round(share * LARGE)]
        laps.weigh(changes[-1])
        assert len(pieces) / PIECES <= max(share, 4 / PIECES)
        assert sum(changes) <= (2 + 3 * share) * LARGE


def test_pieces_follow_each_other_round_and_round() -> None:
    """No piece is left out or comes twice in a lap, also where a run was ended between."""
    laps, seen = Laps(LARGE), []
    for number in range(150):
        seen.append(laps.pieces)
        laps.go_on(laps.pieces, LARGE)
        laps.weigh(number * LARGE // 100)
        if number % 3 == 0:
            laps = Laps.resumed([{"lap": laps.saved}], 0)
    assert seen[0].start == 0
    assert all(after.start == before.stop % PIECES for before, after in pairwise(seen))


def test_a_small_base_has_no_pieces() -> None:
    """It is written in one go; files from before there were pieces are a base and changes too."""
    assert not Laps(100_000).pieces
    assert not Laps(100_000).is_large
    parts: list[dict[str, Any]] = [{"faded": []}, {"keys": []}, {"keys": []}]
    laps = Laps.resumed(parts, LARGE)
    assert laps.pieces.start == 0
    needless = [laps.go_on(laps.pieces, LARGE * len(laps.pieces) // PIECES) for _ in range(70)]
    assert next(count for count in needless if count) == len(parts)
