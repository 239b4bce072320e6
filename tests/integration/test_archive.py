"""Kafka has let go of the begin of the log: the flow reads it out of an archive, and goes on."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from kafka import KafkaAdminClient, TopicPartition

from contracts.plan import Plan
from contracts.settings import DataflowSettings
from dataflows.flow.engine import run_locked
from dataflows.flow.target import Cut
from dataflows.sources.archive import survey
from dataflows.sources.archive_log import with_archive
from dataflows.sources.plan_log import PlanLog, open_log
from tests.flow import shop
from tests.integration.conftest import NewShop
from tests.integration.real_shop import RealShop, places_of_records, run_on_files
from tests.sources.archives import lines, parquet, valued

pytestmark = pytest.mark.services


def test_archive_and_kafka_come_to_what_the_whole_log_does(
    new_shop: NewShop, records: list[shop.Record], tmp_path: Path
) -> None:
    """Stopped in the archive and behind it, then run without it: everything is as on files."""
    made = new_shop(batch_bytes=5_000)
    expected = run_on_files(made, records)
    made.produce(records)
    archive = write_archive(made, records, tmp_path / "topics")
    let_go_of(made, {place: end // 3 for place, end in expected.ends.items()})
    refused = made.start("run", "--until-end", archive_url=archive).refuse()
    assert "run `headwater replay` first" in refused

    settings = made.settings.model_copy(update={"archive_url": str(archive)})
    plan = made.repository.plan
    found = survey(settings, plan)
    assert found.notes == ()

    def opened(settings: DataflowSettings, plan: Plan) -> PlanLog:
        return with_archive(open_log(settings, plan), found, settings)

    read = 0
    for share in (0.25, 0.8):
        summary = run_locked(
            made.repository,
            settings,
            made.places,
            lambda log, share=share: Cut(  # type: ignore[misc] # as it is in this round
                {number: int(end * share) for number, end in log.ends().items()}
            ),
            opened,
        )
        assert not summary.was_stopped
        read += summary.tally.events
    assert read + made.run_to_end()["events"] == expected.counts["events"]
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters


def test_replay_reads_the_archive(
    new_shop: NewShop, records: list[shop.Record], tmp_path: Path
) -> None:
    """The command makes of both what a run makes of the whole log, and a run goes on from there."""
    made = new_shop()
    expected = run_on_files(made, records)
    made.produce(records)
    archive = write_archive(made, records, tmp_path / "topics")
    let_go_of(made, {place: end // 2 for place, end in expected.ends.items()})
    (tmp_path / "topics" / "README.md").write_text("Ours.")
    replay = made.start("replay", archive_url=archive)
    assert replay.wait() == 0, replay.output
    assert "left out are 1 files of other names" in replay.output
    assert made.run_to_end() == {"events": 0, "bad": 0}
    assert made.digests() == expected.digests


def write_archive(made: RealShop, records: list[shop.Record], folder: Path) -> Path:
    """The first two thirds of each partition, in files of several forms."""
    folder.mkdir()
    for topic, partition in places_of_records():
        values = [r.line for r in records if (r.topic, r.partition) == (topic, partition)]
        end = 2 * len(values) // 3
        cuts = [0, end // 7, end // 2, end]
        for number, (first, last) in enumerate(pairwise(cuts)):
            taken = values[first:last]
            offsets = pa.array(range(first, last))
            form, data = [
                ("json", lines(taken)),
                ("json.gz", gzip.compress(lines(taken))),
                ("parquet", parquet(valued(taken, offset=offsets), 17)),
            ][number]
            name = f"{made.topic(topic)}+{partition}+{first:010d}.{form}"
            (folder / name).write_bytes(data)
    return folder


def let_go_of(made: RealShop, before: dict[tuple[str, int], int]) -> None:
    """Have Kafka delete the records before these offsets, as its retention does."""
    admin = KafkaAdminClient(bootstrap_servers=made.servers)
    admin.delete_records(
        {
            TopicPartition(made.topic(topic), partition): offset
            for (topic, partition), offset in before.items()
        }
    )
    admin.close()
