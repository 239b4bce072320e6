"""Feast's bytes in Redis: the key of an entity, the fields of its hash, event times.

One hash per entity and project holds the features of all its views: a field of four bytes per
feature (values as in ``contracts.feast_bytes``), and one per view with the event time of its row,
a ``google.protobuf.Timestamp``. A row is there exactly when that field is.
"""

from __future__ import annotations

from functools import lru_cache

from contracts.feast_bytes import decode_entity_key

_U32 = 0xFFFF_FFFF
_U64 = 0xFFFF_FFFF_FFFF_FFFF
_INT64_MAX = 2**63 - 1
_SECONDS_TAG = 0x08
_NANOS_TAG = 0x10
# Years 1 to 9999: whoever passes on what is beyond would find that it is no Timestamp.
_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799


def redis_key(project: str, entity_key: bytes) -> bytes:
    """The key of an entity's hash; ``entity_key`` as ``feast_bytes.entity_key`` gives it."""
    return entity_key + project.encode()


def entity_key_of(project: str, key: bytes) -> bytes | None:
    """The entity key in a Redis key of that project; None if it is another project's or no key.

    The project stands at the end without a mark before it, so the key is read from its beginning:
    ``bench`` must not take what belongs to ``mybench``.
    """
    suffix = project.encode()
    if not suffix or not key.endswith(suffix):
        return None
    entity = key[: -len(suffix)]
    try:
        decode_entity_key(entity)
    except ValueError:
        return None
    return entity


@lru_cache(maxsize=65_536)
def redis_field(view: str, feature: str) -> bytes:
    """The hash field of a feature's value: murmur3 of ``view:feature``, four bytes."""
    return murmur3_32(f"{view}:{feature}".encode()).to_bytes(4, "little")


def redis_timestamp_field(view: str) -> bytes:
    """The hash field of the event time of a view's row."""
    return b"_ts:" + view.encode()


def murmur3_32(data: bytes) -> int:
    """MurmurHash3 x86 32 bit with seed 0, unsigned."""
    whole = len(data) & ~3
    state = 0
    for start in range(0, whole, 4):
        state ^= _scrambled(int.from_bytes(data[start : start + 4], "little"))
        state = (state << 13 | state >> 19) & _U32
        state = (state * 5 + 0xE654_6B64) & _U32
    state ^= _scrambled(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EB_CA6B & _U32
    state = (state ^ state >> 13) * 0xC2B2_AE35 & _U32
    return state ^ state >> 16


def _scrambled(word: int) -> int:
    word = word * 0xCC9E_2D51 & _U32
    word = (word << 15 | word >> 17) & _U32
    return word * 0x1B87_3593 & _U32


def encode_timestamp(stamp_us: int) -> bytes:
    """``google.protobuf.Timestamp`` of microseconds since 1970 UTC; 1970 itself is ``b""``."""
    seconds, micros = divmod(stamp_us, 1_000_000)
    out = bytearray()
    for tag, number in ((_SECONDS_TAG, seconds & _U64), (_NANOS_TAG, micros * 1000)):
        if number:
            out.append(tag)
            while number > 0x7F:
                out.append(number & 0x7F | 0x80)
                number >>= 7
            out.append(number)
    return bytes(out)


def decode_timestamp(data: bytes) -> int:
    """Microseconds since 1970 UTC, rounded down, of a ``google.protobuf.Timestamp``.

    Raises:
        ValueError: the bytes are broken, another message, or no time of the years 1 to 9999.
    """
    fields = {_SECONDS_TAG: 0, _NANOS_TAG: 0}
    offset = 0
    while offset < len(data):
        tag = data[offset]
        offset += 1
        if tag not in fields:
            raise ValueError(f"not a protobuf timestamp: {data!r}")
        number = shift = 0
        while True:
            if offset == len(data) or shift > 63:
                raise ValueError(f"a protobuf timestamp that is cut off: {data!r}")
            byte = data[offset]
            offset += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        number &= _U64
        fields[tag] = number - 2**64 if number > _INT64_MAX else number
    seconds, nanos = fields.values()
    if not (_SECONDS_MIN <= seconds <= _SECONDS_MAX and 0 <= nanos < 1_000_000_000):
        raise ValueError(f"a protobuf timestamp of no valid time: {data!r}")
    return seconds * 1_000_000 + nanos // 1000
