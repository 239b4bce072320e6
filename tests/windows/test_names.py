"""Names have places, whatever their hashes are, and keys are stored as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.windows.names import Places, joined, parted


class _Crowded(bytes):
    """Many of them have one hash, a row near the end of whatever table there is."""

    __slots__ = ()

    def __hash__(self) -> int:
        return -2 - len(self) % 2


_NAMES = st.lists(st.lists(st.binary(max_size=2), max_size=40), max_size=12)


@pytest.mark.parametrize("kind", [bytes, _Crowded])
@given(_NAMES, st.sampled_from(["of", "replace"]))
def test_names_have_the_places_at_which_they_came(
    kind: type[bytes], batches: list[list[bytes]], how: str
) -> None:
    """A name keeps the place it got first, however many come and however they got there."""
    places: Places[bytes] = Places()
    expected: dict[bytes, int] = {}
    for i, batch in enumerate(batches):
        names = [kind(name) for name in batch]
        new = [name for name in dict.fromkeys(names) if name not in expected]
        if how == "replace" and i % 2:
            expected = {}
            new = list(dict.fromkeys(names))
            places.replace(new)
        expected.update({name: at for at, name in enumerate(new, len(expected))})
        assert places.of(names).tolist() == [expected[name] for name in names]
        assert places.names == list(expected)


def test_places_take_little_memory() -> None:
    """The table beside the names has two to four rows of four bytes for each."""
    places: Places[bytes] = Places()
    for begin in range(0, 10_000, 100):
        places.of([b"%d" % i for i in range(begin, begin + 100)])
    assert 8 * 10_000 <= places._table.nbytes <= 17 * 10_000


@given(st.lists(st.binary(max_size=5)))
def test_joined_keys_come_apart_as_they_were(keys: list[bytes]) -> None:
    """Empty keys and no keys at all included."""
    assert parted(joined(keys)) == keys
