"""Texts in a vector of doubles: a text is its code, the same in dataflow, training and scorer.

Encoders of categories look only at whether two values are equal, and codes are equal exactly when
texts are (of a million texts two have the same code with a probability of 1 in 9,000).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

_BITS = 52  # with the one in front, what a double holds exactly
_REMEMBERED_MAX = 65_536


@lru_cache(maxsize=_REMEMBERED_MAX)
def category_code(text: str) -> float:
    """The code: an integer of at least 2 ** 52, so that no other number is mistaken for one."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return float((1 << _BITS) | (int.from_bytes(digest, "big") >> (64 - _BITS)))


def text_of(value: float | str) -> str:
    """A value of a record as a class or segment is called: 3.0 and 3 are "3", True is "1"."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        # As a float it might be beyond what floats can hold.
        return str(int(value))
    return str(int(value)) if float(value).is_integer() else repr(float(value))
