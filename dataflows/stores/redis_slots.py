"""Names that lie in a given slot of a Redis cluster."""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache
from itertools import product
from string import ascii_lowercase, digits

SLOTS = 16_384
TAG_BYTES = 6


@lru_cache(maxsize=1)
def slot_tags() -> tuple[str, ...]:
    """For each slot a tag of six characters: a key whose first brace is the tag's lies there."""
    tags: dict[int, str] = {}
    for letters in product(ascii_lowercase + digits, repeat=TAG_BYTES - 2):
        word = "".join(letters)
        # Redis' hash of a key's tag is this checksum.
        tags.setdefault(crc_hqx(word.encode(), 0) % SLOTS, f"{{{word}}}")
        if len(tags) == SLOTS:
            break
    return tuple(tags[slot] for slot in range(SLOTS))
