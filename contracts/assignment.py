"""Who is scored by the challenger: the same entity always, as long as salt and share stay.

A growing share only adds entities: whoever was the challenger's stays so.
"""

from __future__ import annotations

from hashlib import blake2b

Value = float | str | bool
_WHOLE = float(1 << 64)


def place_of(salt: str, value: str) -> float:
    """Where a value stands between 0 (included) and 1 (left out), evenly spread."""
    digest = blake2b(value.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    # A number just below 2 ** 64 would be rounded up to it.
    return min(int.from_bytes(digest, "big") / _WHOLE, 1.0 - 2**-53)


def text_of(value: Value) -> str:
    """The text that stands for a value of an input, whatever kind of number it came as."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if float(value).is_integer() else repr(value)


def is_challenged(salt: str, value: str, share: float) -> bool:
    """Whether the challenger scores the entity, given its share of the requests, 0 to 1."""
    return place_of(salt, value) < share
