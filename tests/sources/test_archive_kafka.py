"""An archive of a real topic, made by what the documentation shows."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from contracts.log import LogError
from contracts.plan import Topic
from contracts.settings import DataflowSettings
from dataflows.sources.archive import survey
from dataflows.sources.archive_log import check_first_run, with_archive
from dataflows.sources.kafka_topics import bounds
from dataflows.sources.plan_log import open_log
from tests.integration.commands import ROOT
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka
from tests.sources.archives import plan_of, read_all
from tests.sources.kafka_reading import wait_until
from tests.sources.orders import COLUMNS

pytestmark = pytest.mark.services


def snippet() -> Callable[[str, str, int, str], None]:
    """The function of the documentation."""
    text = (ROOT / "docs" / "archives.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    function: Callable[[str, str, int, str], None] = names["archive"]
    return function


def write(servers: str, topic: str) -> list[bytes]:
    """Plain records, and some of transactions, one of which is taken back; what counts of them."""
    written = []
    with KafkaProducer(bootstrap_servers=servers, linger_ms=5) as plain:
        for number in range(20):
            plain.send(topic, b"plain %d" % number)
            written.append(b"plain %d" % number)
        plain.flush()
    careful = KafkaProducer(bootstrap_servers=servers, transactional_id=topic)
    careful.init_transactions()
    for round_ in range(4):
        careful.begin_transaction()
        values = [b"round %d.%d" % (round_, number) for number in range(5)]
        for value in values:
            careful.send(topic, value)
        # What was not sent yet would not even be taken back.
        careful.flush()
        if round_ == 1:
            careful.abort_transaction()
        else:
            careful.commit_transaction()
            written += values
    careful.close()
    return written


def test_a_topic_with_transactions_is_archived_and_replayed(
    kafka_broker: KafkaBroker | OutsideKafka, tmp_path: Path
) -> None:
    """Every record has the offset that it had in Kafka, out of the archive and behind it."""
    servers = kafka_broker.bootstrap_servers
    topic = Topic(f"archive-{uuid.uuid4().hex[:12]}", COLUMNS, "at", 0, "user")
    plan = plan_of(topic)
    settings = DataflowSettings.for_repo(
        tmp_path, log_url=f"kafka://{servers}", archive_url=str(tmp_path / "topics")
    )
    (tmp_path / "topics").mkdir()
    log = open_log(settings, plan)
    log.close()
    place = (topic.name, 0)
    written = write(servers, topic.name)
    # A transaction may be read a moment after its end was confirmed.
    wait_until(lambda: bounds(settings, [place])[place] == (0, 44))
    snippet()(servers, topic.name, 0, settings.archive_url)
    written += write(servers, topic.name)
    wait_until(lambda: bounds(settings, [place])[place] == (0, 88))

    log = open_log(settings, plan)
    end = log.ends()[0]
    whole = read_all(log.open(log.partitions[0], None), end)
    log.close()
    assert [value for _, value in whole] == written
    assert end == 88
    assert len(written) == 70

    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.delete_records({TopicPartition(topic.name, 0): 30})
    log = with_archive(open_log(settings, plan), survey(settings, plan), settings)
    assert log.begins() == {0: 0}
    log.check()
    assert read_all(log.open(log.partitions[0], None), end) == whole
    log.settle()
    log.close()
    log = with_archive(open_log(settings, plan), survey(settings, plan), settings)
    assert read_all(log.open(log.partitions[0], 13), end) == [o for o in whole if o[0] >= 13]
    log.close()

    admin.delete_records({TopicPartition(topic.name, 0): 50})
    admin.close()
    log = open_log(settings, plan)
    with pytest.raises(LogError, match="keeps it from 50 on only: 6 offsets are missing"):
        with_archive(log, survey(settings, plan), settings).check()
    with pytest.raises(LogError, match="run `headwater replay` first"):
        check_first_run(log, settings, plan)
    log.close()
