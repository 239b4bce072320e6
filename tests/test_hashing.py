"""Bits for counting distinct values: spread, equal for equal values, and the same for ever."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.hashing import hash_integers, hash_numbers, hash_texts

_BITS = 2**64 - 1
_SEED = 0x9E3779B97F4A7C15
_FACTOR = 0xC6A4A7935BD1E995
_INT64 = st.integers(-(2**63), 2**63 - 1)


def _murmur(data: bytes) -> int:
    """MurmurHash64A, as its author wrote it down, in plain integers."""
    found = _SEED ^ (len(data) * _FACTOR & _BITS)
    whole = len(data) // 8 * 8
    for begin in range(0, whole, 8):
        word = int.from_bytes(data[begin : begin + 8], "little") * _FACTOR & _BITS
        word = (word ^ word >> 47) * _FACTOR & _BITS
        found = (found ^ word) * _FACTOR & _BITS
    if whole < len(data):
        found = (found ^ int.from_bytes(data[whole:], "little")) * _FACTOR & _BITS
    found = (found ^ found >> 47) * _FACTOR & _BITS
    return (found ^ found >> 47) >> 11


def _splitmix(word: int) -> int:
    """The next number of SplitMix64 after the state ``word``."""
    word = (word + 0x9E3779B97F4A7C15) & _BITS
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _BITS
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _BITS
    return (word ^ word >> 31) >> 11


def _plain(hashes: Any) -> list[int | None]:
    return [None if math.isnan(one) else int(one) for one in hashes.tolist()]


@given(st.lists(st.one_of(st.none(), st.text(), st.text(min_size=60, max_size=90)), max_size=20))
def test_texts_are_hashed_by_their_utf8_bytes(values: list[str | None]) -> None:
    """Whatever stands beside it, a string has the hash of its bytes, and None has none."""
    wanted = [None if value is None else _murmur(value.encode()) for value in values]
    assert _plain(hash_texts(values)) == wanted


@given(st.lists(st.one_of(st.none(), _INT64), max_size=20))
def test_integers_are_hashed_with_all_their_bits(values: list[int | None]) -> None:
    """Integers that a double cannot tell apart have different hashes."""
    wanted = [None if value is None else _splitmix(value & _BITS) for value in values]
    assert _plain(hash_integers(values)) == wanted


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), max_size=20))
def test_numbers_are_hashed_by_their_value(values: list[float]) -> None:
    """Zeros of both signs are one value; NaN, whatever its bits, is null."""
    array = np.array(values, np.float64)
    words = (array + 0.0).view(np.uint64).tolist()
    wanted = [None if math.isnan(v) else _splitmix(w) for v, w in zip(values, words, strict=True)]
    assert _plain(hash_numbers(array)) == wanted
    assert hash_numbers(np.array([0.0])) == hash_numbers(np.array([-0.0]))


def test_hashes_never_change() -> None:
    """States of all times hold these very bits."""
    assert _plain(hash_texts(["", "a", "Headwater, 53 bits", "é", None])) == [
        4_673_833_774_496_974,
        6_287_363_978_266_376,
        715_781_644_629_824,
        5_018_837_278_454_344,
        None,
    ]
    assert _plain(hash_integers([0, 1, -1, 2**63 - 1, None])) == [
        7_956_156_453_446_585,
        5_103_132_997_656_651,
        8_051_922_005_355_685,
        1_492_015_445_819_507,
        None,
    ]
    assert _plain(hash_numbers(np.array([0.0, 1.0, -2.5, np.nan]))) == [
        7_956_156_453_446_585,
        4_814_728_861_286_013,
        7_884_745_096_118_431,
        None,
    ]


def test_hashes_do_not_depend_on_the_process() -> None:
    """Another process, with another seed for Python's own hashes, has the same ones."""
    code = "from dataflows.hashing import *; print(hash_texts(['a', 'bc']).tolist())"
    found = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        found.add(done.stdout)
    assert found == {f"{hash_texts(['a', 'bc']).tolist()}\n".encode()}


def _numbers(values: Iterable[float]) -> Any:
    return hash_numbers(np.fromiter(values, np.float64))


_COUNT = 200_000
_SETS: dict[str, Callable[[], Any]] = {
    "small integers": lambda: hash_integers(range(_COUNT)),
    "negative integers": lambda: hash_integers(range(-_COUNT, 0)),
    "multiples of a power of two": lambda: hash_integers(range(0, _COUNT << 40, 1 << 40)),
    "neighbours beyond 2 ** 53": lambda: hash_integers(range(2**60, 2**60 + _COUNT)),
    "whole numbers": lambda: _numbers(map(float, range(_COUNT))),
    "amounts of cents": lambda: _numbers(cents / 100 for cents in range(_COUNT)),
    "times of each second": lambda: _numbers(1.7e15 + s * 1e6 for s in range(_COUNT)),
    "numbers as text": lambda: hash_texts([str(number) for number in range(_COUNT)]),
    "texts that differ at the end": lambda: hash_texts([f"card-{n:09d}" for n in range(_COUNT)]),
    "texts that differ at the begin": lambda: hash_texts([f"{n:09d}-card" for n in range(_COUNT)]),
    "texts of many lengths": lambda: hash_texts(["x" * n for n in range(2_000)]),
}


@pytest.mark.parametrize("name", _SETS)
def test_hashes_of_tidy_values_are_spread(name: str) -> None:
    """No two of them collide, and each bit and each value of the top and low bytes is fair."""
    hashes = _SETS[name]()
    count = len(hashes)
    assert hashes.min() >= 0.0
    assert hashes.max() < 2.0**53
    words = hashes.astype(np.uint64)
    assert (words == hashes).all()
    # Of 200,000 fair hashes two collide once in 450,000 sets.
    assert len(np.unique(words)) == count
    bits = (words[:, None] >> np.arange(53, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.sum(axis=0) - count / 2).max() < 5 * math.sqrt(count) / 2
    for byte in (words >> np.uint64(45), words & np.uint64(255)):
        found = np.bincount(byte.astype(np.int64), minlength=256)
        deviation = ((found - count / 256) ** 2).sum() / (count / 256)
        # Chi squared with 255 degrees of freedom; six standard deviations.
        assert abs(deviation - 255) < 6 * math.sqrt(2 * 255)


@pytest.mark.parametrize("kind", ["integers", "texts"])
def test_one_bit_changes_half_of_the_hash(kind: str) -> None:
    """Flipping any one bit of a value flips each bit of its hash about every other time."""
    rng = np.random.default_rng(7)
    values = rng.integers(0, 2**56, 2_000)
    flipped = np.zeros(53)
    for bit in range(56):
        other = values ^ (1 << bit)
        if kind == "integers":
            one, two = hash_integers(values.tolist()), hash_integers(other.tolist())
        else:
            one, two = (
                hash_texts([f"{v:014x}" for v in part.tolist()]) for part in (values, other)
            )
        changed = one.astype(np.int64) ^ two.astype(np.int64)
        flips = ((changed[:, None] >> np.arange(53)) & 1).mean(axis=0)
        assert np.abs(flips - 0.5).max() < 0.08
        flipped += flips
    assert np.abs(flipped / 56 - 0.5).max() < 0.01
