"""Who is scored by the challenger: the same entity always, as long as salt and share stay.

A growing share only adds entities: whoever was the challenger's stays so. A value that is no text
goes by what ``contracts.category.text_of`` calls it.
"""

from __future__ import annotations

from hashlib import blake2b

_WHOLE = float(1 << 64)


def place_of(salt: str, value: str) -> float:
    """Where a value stands between 0 (included) and 1 (left out), evenly spread."""
    digest = blake2b(value.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    # A number just below 2 ** 64 would be rounded up to it.
    return min(int.from_bytes(digest, "big") / _WHOLE, 1.0 - 2**-53)


def is_challenged(salt: str, value: str, share: float) -> bool:
    """Whether the challenger scores the entity, given its share of the requests, 0 to 1."""
    return place_of(salt, value) < share
