"""Drift alerts in Kafka: readers get each with its id, repeats included."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition

from contracts.drift_record import DRIFT_TOPIC, DriftAlert
from contracts.log import LogError
from contracts.settings import DataflowSettings
from dataflows.flow.drift_kafka import KafkaAlerts
from dataflows.flow.drift_log import open_alert_log
from dataflows.flow.run_context import Places, RunContext
from tests.flow.processes import free_addresses
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka

pytestmark = pytest.mark.services


def _context(folder: Path, servers: str, **given: Any) -> RunContext:
    settings = DataflowSettings.for_repo(folder, log_url=f"kafka://{servers}", **given)
    return RunContext(settings, cast("Places", None), None, threading.Event())


def _alert(model: str, feature: str) -> DriftAlert:
    return DriftAlert(
        event_timestamp="2013-01-02T00:00:00.000000Z", model=model, kind="ks", feature=feature,
        state="begin", value=0.25, threshold=0.1, p_value=1e-9, rows=990, window_from_us=1,
        window_until_us=2, reference_rows=8_000, reference_from_us=0, reference_until_us=1,
    ).identified()  # fmt: skip


def _read(servers: Sequence[str], model: str) -> list[bytes]:
    """All alerts of the model that the topic holds."""
    found: list[bytes] = []
    with closing(
        KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    ) as consumer:
        places = [
            TopicPartition(DRIFT_TOPIC, p) for p in consumer.partitions_for_topic(DRIFT_TOPIC)
        ]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        while any(consumer.position(place) < end for place, end in ends.items()):
            for records in consumer.poll(1_000).values():
                found += [record.value for record in records if record.key == model.encode()]
    return found


def test_alerts_come_in_order_and_again(
    tmp_path: Path, kafka_broker: KafkaBroker | OutsideKafka
) -> None:
    """What a killed epoch brings again is the same byte for byte, so the same by its id."""
    context = _context(tmp_path, kafka_broker.bootstrap_servers)
    model = f"model_{uuid4().hex}"
    alerts = [_alert(model, name) for name in ("a", "b", "c")]
    with closing(open_alert_log(context)) as log:
        assert isinstance(log, KafkaAlerts)
        log.append([])
        log.append(alerts[:2])
        log.append(alerts[2:])
    with closing(open_alert_log(context)) as log:
        log.append(alerts[1:])
    found = _read(context.settings.log.bootstrap_servers, model)
    assert found == [msgspec.json.encode(alerts[place]) for place in (0, 1, 2, 1, 2)]
    read = [msgspec.json.decode(line, type=DriftAlert) for line in found]
    assert {alert.id: alert for alert in read} == {alert.id: alert for alert in alerts}
    assert len({alert.id for alert in alerts}) == len(alerts)


def test_nobody_answers(tmp_path: Path) -> None:
    """Brokers that are gone are waited for no longer than the setting says, and told of."""
    (address,) = free_addresses(1)
    context = _context(tmp_path, address, outage_seconds=1.0, kafka_timeout_seconds=0.3)
    told: list[str] = []
    context.on_epoch.append(lambda: told.append(context.waiting_for))
    with closing(open_alert_log(context)) as log, pytest.raises(LogError, match=address):
        log.append([_alert("m", "a")])
    assert context.waiting_for == ""
    assert [text for text in told if text] == [f"Kafka at {address} to answer"]


def test_told_to_stop(tmp_path: Path) -> None:
    """A run that is to stop does not wait for brokers that are gone."""
    (address,) = free_addresses(1)
    context = _context(tmp_path, address, outage_seconds=600.0, kafka_timeout_seconds=1.0)
    context.stop.set()
    with closing(open_alert_log(context)) as log, pytest.raises(LogError):
        log.append([_alert("m", "a")])
