"""The log as a plan sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.log import LogError
from contracts.plan import Column, Plan, Topic
from dataflows.sources.plan_log import FilePlanLog, LogPartition

AT = (Column("at", "timestamp", False),)


def test_partitions_are_numbered_by_topic_and_number(tmp_path: Path) -> None:
    """Numbers follow topic, then partition as a number; a topic without files gets one."""
    for name in ("a/0", "a/2", "a/10"):
        path = tmp_path / f"{name}.ndjson"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}\n" * int(path.stem))
    plan = Plan("p", (Topic("a", AT, "at", 0, "at"), Topic("b", AT, "at", 0, "at")), (), ())
    log = FilePlanLog(tmp_path, plan)
    places = [("a", 0), ("a", 2), ("a", 10), ("b", 0)]
    assert log.partitions == [LogPartition(n, *place) for n, place in enumerate(places)]
    assert log.ends() == {0: 0, 1: 6, 2: 30, 3: 0}
    reader = log.open(log.partitions[1], 3)
    chunk = reader.read(1_000)
    reader.close()
    assert chunk is not None
    assert chunk.offsets.tolist() == [3]


@pytest.mark.parametrize(
    "topic",
    [
        Topic("a", AT, "at", 0, "at", format="avro", schema="{}"),
        Topic("a", AT, "at", 0, "at", framing="schema-registry"),
    ],
)
def test_files_hold_plain_json(tmp_path: Path, topic: Topic) -> None:
    """Binary records cannot stand in lines: the topic is named, with what to do."""
    with pytest.raises(LogError, match=r"topic 'a' holds .* kafka://"):
        FilePlanLog(tmp_path, Plan("p", (topic,), (), ()))
