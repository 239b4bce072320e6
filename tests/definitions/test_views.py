"""A stream feature view as the engine executes it: what is kept, and what is refused by name."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from feast import Entity, Field, FileSource, KafkaSource, StreamFeatureView, ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, String

from contracts.plan import View
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.repository import load_repository
from dataflows.definitions.topics import compile_topic
from dataflows.definitions.views import compile_view

pytestmark = pytest.mark.filterwarnings("ignore:Stream feature views are experimental")

CARD = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)
DEFINITIONS = """
from tests.definitions.test_views import CARD as card
from tests.definitions.test_views import payments

first = payments("first", "{path}", {first})
second = payments("second", "{path}", {second})
"""
STORE = """
project: cards
registry: data/registry.db
provider: local
online_store: {type: sqlite, path: data/online.db}
entity_key_serialization_version: 3
"""


def payments(name: str, path: str, tags: dict[str, str]) -> StreamFeatureView:
    """A view of one sum by card."""
    source = KafkaSource(
        name=f"{name}_source",
        topic="payments",
        kafka_bootstrap_servers="",
        timestamp_field="at",
        message_format=JsonFormat("card string not null, amount double, at timestamp not null"),
        batch_source=FileSource(name=f"{name}_files", path=path, timestamp_field="event_timestamp"),
    )
    return StreamFeatureView(
        name=name,
        entities=[CARD],
        source=source,
        mode="python",
        timestamp_field="at",
        aggregations=[Aggregation("amount", "sum", timedelta(hours=1), name="amount")],
        schema=[Field(name="card", dtype=String), Field(name="amount", dtype=Float64)],
        tags=tags,
    )


def _compiled(tags: dict[str, str]) -> View:
    view = payments("cards", "data/cards", tags)
    topic = compile_topic(view.stream_source, "cards")
    return compile_view(view, topic, {"card": CARD}, Path("/repository")).view


@pytest.mark.parametrize(
    ("tags", "path"),
    [
        ({}, "/repository/data/cards"),
        ({"headwater.offline": "true"}, "/repository/data/cards"),
        ({"headwater.offline": "false"}, ""),
    ],
)
def test_a_view_may_be_served_only(tags: dict[str, str], path: str) -> None:
    """The tag headwater.offline says whether a view has a table beside the online store."""
    assert _compiled(tags).offline_path == path


@pytest.mark.parametrize("value", ["False", "no", ""])
def test_any_other_value_is_refused(value: str) -> None:
    """A tag that is neither true nor false is named, with what it may be."""
    with pytest.raises(DefinitionError, match=r"'cards'.*headwater\.offline.*'true' or 'false'"):
        _compiled({"headwater.offline": value})


def test_only_tables_need_folders_of_their_own(tmp_path: Path) -> None:
    """Two views with one path are refused, unless at most one of them has a table."""
    (tmp_path / "feature_store.yaml").write_text(STORE)
    no: Any = {"headwater.offline": "false"}
    for first, second in (({}, no), (no, {}), (no, no)):
        text = DEFINITIONS.format(path="data/same", first=first, second=second)
        (tmp_path / "definitions.py").write_text(text)
        views = load_repository(tmp_path).plan.views
        assert [bool(view.offline_path) for view in views] == [not first, not second]
    text = DEFINITIONS.format(path="data/same", first={}, second={})
    (tmp_path / "definitions.py").write_text(text)
    with pytest.raises(DefinitionError, match="share the batch_source"):
        load_repository(tmp_path)
