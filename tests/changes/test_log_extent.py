"""How much there is to read, in files and in Kafka, and whether the beginning is still there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from contracts.plan import Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.changes.log_extent import LogExtent, PartitionExtent, log_extent, lost_beginnings


def _plan(*topics: str) -> Plan:
    return Plan("shop", tuple(Topic(name, (), "at", 0, "k") for name in topics), (), ())


def _settings(folder: Path, url: str, **given: Any) -> DataflowSettings:
    return DataflowSettings.for_repo(folder, log_url=url, **given)


def test_files(tmp_path: Path) -> None:
    """Records of short files are counted, of long ones told by their first ones; none is made."""
    log = tmp_path / "log"
    for name, lines in (("a/0", 10), ("a/1", 20_000), ("b/0", 0)):
        path = log / f"{name}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps({"n": 10**9 + n}) + "\n" for n in range(lines))
        path.write_text(text if name != "b/0" else '{"torn')
    settings = _settings(tmp_path, log.as_uri())
    found = log_extent(settings, _plan("a", "b", "missing"))
    assert found.kind == "file"
    assert {one.name: one.records for one in found.partitions} == {
        "a/0": 10, "a/1": 20_000, "b/0": 0
    }  # fmt: skip
    assert found.records == 20_010
    assert found.is_estimated
    assert not log_extent(settings, _plan("b")).is_estimated
    assert not (log / "missing").exists()


def test_a_log_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """What is wrong with the log is told in a line, and nothing else is."""
    path = tmp_path / "log" / "a" / "odd.ndjson"
    path.parent.mkdir(parents=True)
    path.touch()
    found = log_extent(_settings(tmp_path, (tmp_path / "log").as_uri()), _plan("a"))
    assert "partitions are named" in found.problem
    assert found.records is None
    found = log_extent(_settings(tmp_path, "kafka://127.0.0.1:1"), _plan("a"))
    assert found.kind == "kafka"
    assert "127.0.0.1:1" in found.problem
    assert "\n" not in found.problem


def test_beginnings_that_are_gone() -> None:
    """A partition that begins behind where it began for the state is told, no other one."""
    places = [
        PartitionExtent(f"a/{n}", begin, 9, 9 - begin) for n, begin in enumerate((0, 5, 5, 7))
    ]
    lost = lost_beginnings(LogExtent("kafka", tuple(places)), {"a/0": 0, "a/1": 0, "a/2": 5})
    assert lost == ("a/1 begins at offset 5 now, at 0 when the state was made",)


@pytest.mark.services
def test_kafka(tmp_path: Path, kafka_broker: Any, new_topic: Any) -> None:
    """Offsets tell how many records there are, from the first that is kept or archived on."""
    topic, missing = new_topic(2), "test-plan-missing"
    servers = kafka_broker.bootstrap_servers
    producer = KafkaProducer(bootstrap_servers=servers)
    for number in range(30):
        producer.send(topic, b"{}", partition=number % 3 // 2)
    producer.flush()
    producer.close()
    admin = KafkaAdminClient(bootstrap_servers=servers)
    url = "kafka://" + ",".join([servers] if isinstance(servers, str) else servers)
    try:
        found = log_extent(_settings(tmp_path, url), _plan(topic, missing))
        assert [(one.begin, one.end) for one in found.partitions] == [(0, 20), (0, 10)]
        assert (found.records, found.is_estimated) == (30, False)
        admin.delete_records({TopicPartition(topic, 0): 15})
        found = log_extent(_settings(tmp_path, url), _plan(topic, missing))
        assert found.records == 15
        assert len(lost_beginnings(found, {f"{topic}/0": 0, f"{topic}/1": 0})) == 1
        archive = tmp_path / "archive"
        archive.mkdir()
        (archive / f"{topic}+0+0000000000.json").write_text("{}\n" * 20)
        settings = _settings(tmp_path, url, archive_url=archive.as_uri())
        found = log_extent(settings, _plan(topic, missing))
        assert found.records == 30
        assert lost_beginnings(found, {f"{topic}/0": 0, f"{topic}/1": 0}) == ()
        assert missing not in admin.list_topics()
    finally:
        admin.close()
