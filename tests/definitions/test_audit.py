"""All that Feast lets people write, one by one: run, without effect on us, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from feast import Entity, Field, FileSource, ValueType
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.types import Float64

from dataflows.definitions.errors import DefinitionError
from tests.definitions.cards import files, plan_of, service, source, view
from tests.definitions.refused_sources import REFUSED_SOURCES
from tests.definitions.refused_views import (
    KEY,
    REFUSED_VIEWS,
    Objects,
    batch_view,
    kinesis,
    mapped,
    on_demand_view,
    one_field,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Stream feature views are experimental"),
    pytest.mark.filterwarnings("ignore:Batch feature views are experimental"),
    pytest.mark.filterwarnings("ignore:On demand feature view"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:feast"),
]

REFUSED = {**REFUSED_VIEWS, **REFUSED_SOURCES}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_run_is_refused_by_name(what: str) -> None:
    """One line tells which object asks for what, so that nothing is silently left out."""
    objects, reason = REFUSED[what]
    with pytest.raises(DefinitionError, match=reason) as caught:
        plan_of(*objects())
    assert "\n" not in str(caught.value)


# What is asked for -> why it may be: Feast alone acts on it, or what it asks for is done anyway.
HARMLESS: dict[str, Callable[[], Objects]] = {
    # Words for people and for Feast's UI.
    "words": lambda: [view(description="d", owner="o", org="x", tags={"team": "t"})],
    # The tag headwater.offline decides; Feast's own writer is never asked.
    "offline": lambda: [view(offline=True)],
    # Every record is checked against the declared types anyway.
    "enable_validation": lambda: [view(enable_validation=True)],
    # Feast itself ignores it for a view that has a stream.
    "sink_source": lambda: [view(sink_source=files(path="data/sink"))],
    # Feast means the current version.
    "version latest": lambda: [view(version="latest")],
    # The source's is taken.
    "no timestamp_field": lambda: [
        view(timestamp_field="", aggregations=[], schema=[KEY, Field(name="amount", dtype=Float64)])
    ],
    # The log is named by HEADWATER_LOG_URL; this is for other programs.
    "kafka_bootstrap_servers": lambda: [view(source=source(kafka_bootstrap_servers="kafka:9092"))],
    # A name for itself.
    "field_mapping of nothing": lambda: mapped({"amount": "amount"}),
    "words of a field": lambda: one_field(Float64, description="d", tags={"unit": "EUR"}),
    # Feast fills and serves these by itself; no model of ours reads them here.
    "a batch view": lambda: [view(), batch_view()],
    "an on demand view": lambda: [view(), on_demand_view()],
    "a service of others": lambda: [view(), b := batch_view(), service(b.with_name("x"))],
    # Feast's own server acts on it; no model reads this service.
    "a logged service": lambda: [
        v := view(),
        service(v, logging_config=LoggingConfig(FileLoggingDestination(path="logs"))),
    ],
    # The key's type is in the schema.
    "an entity of a type that the schema knows": lambda: [
        e := Entity(name="other", join_keys=["card"], value_type=ValueType.UNKNOWN),
        view(entities=[e]),
    ],
    # A batch source of a view that is served only is Feast's affair.
    "a batch source that is not written": lambda: [
        view(
            source=source(batch_source=files(path="s3://bucket/cards")),
            tags={"headwater.offline": "false"},
        )
    ],
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_does_not_concern_us_changes_nothing(what: str) -> None:
    """It is no reason to refuse a repository, and makes no other plan."""
    (found,) = plan_of(*HARMLESS[what]()).views
    (usual,) = plan_of(view()).views
    assert (found.topic, found.join_keys, found.join_key_types) == (
        "payments",
        ("card",),
        ("string",),
    )
    assert found.ttl_us == usual.ttl_us
    assert found.aggregates[0].column == "amount"
    assert found.transform == "none"


def test_feast_itself_refuses_some() -> None:
    """What Feast does not let people define needs no refusal of ours."""
    with pytest.raises(ValueError, match="single join key"):
        Entity(name="e", join_keys=["a", "b"], value_type=ValueType.STRING)
    with pytest.raises(TypeError, match="date_partition_column"):
        FileSource(path="p", date_partition_column="d")  # type: ignore[call-arg]
    for batch_or_unknown in (files(), kinesis()):
        with pytest.raises(ValueError, match="stream source"):
            view(source=batch_or_unknown)
    with pytest.raises(ValueError, match="timestamp field"):
        view(timestamp_field="")
