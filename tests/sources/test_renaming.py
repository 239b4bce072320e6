"""Fields that views call otherwise than producers do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import Column, Topic
from dataflows.sources.decoding import make_decoder
from tests.sources.chunks import chunk_of
from tests.sources.orders import FORMATS, GOOD, ROWS, Format, Row, assert_same

# Two fields change their names with each other; the event time has another one too.
_MAPPING = (("user", "card"), ("at", "happened_at"), ("kind", "note"), ("note", "kind"))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(ROWS, max_size=5))
def test_columns_have_the_names_of_the_views(name: str, rows: list[Row]) -> None:
    """In every format columns are renamed, all at once, and are else what they were."""
    form = FORMATS[name]
    renamed = Format(replace(form.topic, field_mapping=_MAPPING), form.write)
    records = [form.write(row) for row in rows] + [b"\1"]
    found, plain = renamed.decode(records), form.decode(records)
    names = dict(_MAPPING)
    columns = {names.get(name, name): values for name, values in plain.columns.items()}
    assert_same(found, replace(plain, columns=columns))
    assert found.bad == plain.bad


def test_what_is_wrong_is_said_with_the_names_of_the_producer() -> None:
    """A dead letter names the field that its record has."""
    form = FORMATS["json plain"]
    renamed = Format(replace(form.topic, field_mapping=_MAPPING), form.write)
    (bad,) = renamed.decode([form.write({**GOOD, "user": None})]).bad
    assert "$.user" in bad.reason


def test_a_field_may_have_a_name_that_python_has_not() -> None:
    """Names of fields that no attribute can have, as ``user-id``, are read like others."""
    columns = (Column("user-id", "string", False), Column("class", "int64", True))
    topic = Topic(
        "t", (*columns, Column("@at", "timestamp", False)), "@at", 0, "user-id",
        field_mapping=(("user-id", "user"), ("@at", "at")),
    )  # fmt: skip
    lines = [
        b'{"user-id": "u", "class": 7, "@at": "2024-01-01T00:00:00Z"}',
        b'{"user-id": 1, "class": 7, "@at": "2024-01-01T00:00:00Z"}',
        b'{"user-id": "w", "@at": "2024-01-01T00:00:00Z"}',
    ]
    decoded = make_decoder(topic).decode(chunk_of(lines))
    assert decoded.columns["user"] == ["u", "w"]
    assert decoded.columns["class"] == [7, None]
    assert decoded.event_us.tolist() == decoded.columns["at"].tolist()
    assert [bad.index for bad in decoded.bad] == [1]
    assert "user-id" in decoded.bad[0].reason
