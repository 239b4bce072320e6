"""Our keys, fields and event times in Redis against Feast's own functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from feast.infra.online_stores.helpers import _mmh3
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from contracts import feast_redis
from contracts.feast_bytes import entity_key

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(TEXT, TEXT)
def test_field_equals_feast(view: str, feature: str) -> None:
    """A feature's field is Feast's hash of ``view:feature``, for any names."""
    assert feast_redis.redis_field(view, feature) == _mmh3(f"{view}:{feature}")


@given(st.integers(FIRST_US, LAST_US))
@example(0)
@example(-1)
@example(999_999)
@example(1_000_000)
def test_timestamp_equals_protobuf(stamp_us: int) -> None:
    """Every microsecond that Feast can write has its bytes here and comes back."""
    message = Timestamp()
    message.FromDatetime(EPOCH + timedelta(microseconds=stamp_us))
    data = message.SerializeToString()
    assert feast_redis.encode_timestamp(stamp_us) == data
    assert feast_redis.decode_timestamp(data) == stamp_us


@given(st.integers(FIRST_US // 10**6, LAST_US // 10**6), st.integers(0, 10**9 - 1))
def test_nanoseconds_are_cut(seconds: int, nanos: int) -> None:
    """A time that somebody wrote with nanoseconds is read as its microsecond."""
    data = Timestamp(seconds=seconds, nanos=nanos).SerializeToString()
    assert feast_redis.decode_timestamp(data) == seconds * 10**6 + nanos // 1000


@pytest.mark.parametrize("data", [b"\x08", b"\x08\x80", b"\x12\x01a", b"\x08" + b"\x80" * 11])
def test_broken_timestamp_is_refused(data: bytes) -> None:
    """Bytes that are cut off or of another message raise ValueError."""
    with pytest.raises(ValueError, match="protobuf timestamp"):
        feast_redis.decode_timestamp(data)


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(LAST_US // 10**6 + 1, 0), (FIRST_US // 10**6 - 1, 0), (2**63 - 1, 0), (0, -1), (0, 10**9)],
)
def test_a_time_that_no_timestamp_has_is_refused(seconds: int, nanos: int) -> None:
    """What a reader could not pass on, as its message would not hold, raises ValueError."""
    data = Timestamp(seconds=seconds, nanos=nanos).SerializeToString()
    with pytest.raises(ValueError, match="no valid time"):
        feast_redis.decode_timestamp(data)


@given(st.text(st.sampled_from("ab_"), min_size=1, max_size=4), st.text(min_size=1, max_size=3))
def test_a_key_belongs_to_one_project(project: str, more: str) -> None:
    """A key is known as its own project's, and not as that of a name that ends the same."""
    entity = entity_key(["k"], ["string"], ["v"])
    key = feast_redis.redis_key(project, entity)
    assert key == entity + project.encode()
    assert feast_redis.entity_key_of(project, key) == entity
    longer = feast_redis.redis_key(more + project, entity)
    assert feast_redis.entity_key_of(project, longer) is None
    assert feast_redis.entity_key_of(project, project.encode()) is None
    assert feast_redis.entity_key_of("", key) is None
