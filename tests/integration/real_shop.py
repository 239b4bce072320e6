"""The shop of the flow's tests on real services: its topics in Kafka, its online store in Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from contracts.online_store import RedisConfig, parse_online_store
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import Summary, default_places, run_flow
from dataflows.flow.progress import Progress, read_progress
from dataflows.flow.run_context import Places
from dataflows.stores.digest import digest_models, digest_parquet, digest_redis, digest_sqlite
from tests.flow import shop

ROOT = Path(__file__).parents[2]
TOPICS = {"orders": 2, "visits": 1, "outcomes": 1}
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class RealShop:
    """One shop: a repository of its own, topics of its own, a project of its own in Redis.

    Attributes:
        folder: the Feast repository.
        servers: of Kafka.
        redis: ``host:port`` of Redis, with options as in Feast's connection string.
        project: Feast project.
        prefix: of the names of its topics.
    """

    folder: Path
    servers: str
    redis: str
    project: str
    prefix: str
    given: dict[str, Any] = field(default_factory=dict)

    def topic(self, name: str) -> str:
        """The topic's name in Kafka."""
        return f"{self.prefix}.{name}"

    @property
    def settings(self) -> DataflowSettings:
        """As ``shop.settings``, with Kafka as the log."""
        chosen = {"shards": 3, "offline_publish_seconds": 0.0, **self.given}
        return DataflowSettings.for_repo(self.folder, log_url=f"kafka://{self.servers}", **chosen)

    @property
    def environment(self) -> dict[str, str]:
        """The same for a process."""
        chosen = {"shards": 3, "offline_publish_seconds": 0.0, **self.given}
        settings = {f"HEADWATER_{name.upper()}": str(value) for name, value in chosen.items()}
        return {
            **os.environ,
            **settings,
            "HEADWATER_LOG_URL": f"kafka://{self.servers}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }

    @property
    def repository(self) -> Repository:
        """The compiled repository."""
        return load_repository(self.folder)

    @property
    def config(self) -> RedisConfig:
        """Its online store."""
        store = {"type": "redis", "connection_string": self.redis}
        config = parse_online_store(store, self.folder)
        assert isinstance(config, RedisConfig)
        return config

    @property
    def places(self) -> Places:
        """Where everything lies."""
        return default_places(self.repository, self.settings)

    def run(self) -> Summary:
        """Run the flow in this process until the log's end."""
        return run_flow(self.repository, self.settings, self.places, until_end=True)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """``headwater VERB ...`` on this repository, as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments, "--repo", str(self.folder)],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def produce(self, records: list[shop.Record]) -> None:
        """Write records to the partitions that they name, in order."""
        producer = KafkaProducer(bootstrap_servers=self.servers, linger_ms=5)
        sent = [
            producer.send(self.topic(one.topic), one.line, partition=one.partition)
            for one in records
        ]
        producer.flush(PATIENCE_SECONDS)
        assert all(future.succeeded() for future in sent)
        producer.close()

    def digests(self) -> dict[str, str]:
        """What a run left behind."""
        return digests(self.repository, self.places)

    def dead_letters(self) -> list[tuple[str, int, int, bytes]]:
        """(topic without prefix, partition, offset, record) of all letters, sorted."""
        found = []
        consumer = KafkaConsumer(
            bootstrap_servers=self.servers, auto_offset_reset="earliest", enable_auto_commit=False
        )
        for name in TOPICS:
            place = TopicPartition(f"{self.topic(name)}.dlq", 0)
            if not consumer.partitions_for_topic(place.topic):
                continue
            consumer.assign([place])
            end = consumer.end_offsets([place])[place]
            consumer.seek_to_beginning(place)
            while consumer.position(place) < end:
                for record in consumer.poll(1_000).get(place, ()):
                    headers = dict(record.headers)
                    assert headers["headwater.topic"] == self.topic(name).encode()
                    assert headers["headwater.error"]
                    at = [int(headers[f"headwater.{h}"]) for h in ("partition", "offset")]
                    found.append((name, at[0], at[1], record.value))
        consumer.close()
        return sorted(found)


def make_real_shop(folder: Path, servers: str, redis: str, **given: Any) -> RealShop:
    """A new shop: its topics exist and are empty."""
    unique = uuid.uuid4().hex[:12]
    definitions = shop.DEFINITIONS
    for name in TOPICS:
        definitions = definitions.replace(f'("{name}", "', f'("{unique}.{name}", "')
    shop.make_repository(folder, definitions)
    text = shop.STORE.replace("project: shop", f"project: shop_{unique}")
    store = f'{{type: redis, connection_string: "{redis}"}}'
    text = text.replace("{type: sqlite, path: data/online.db}", store)
    (folder / "feature_store.yaml").write_text(text)
    made = RealShop(folder, servers, redis, f"shop_{unique}", unique, given)
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics(
        {made.topic(name): {"num_partitions": count} for name, count in TOPICS.items()},
        wait_for_metadata=True,
    )
    admin.close()
    return made


def digests_of_files(made: RealShop, records: list[shop.Record], folder: Path) -> dict[str, str]:
    """The digests of a run of the same shop on files and SQLite: what a run must come to."""
    twin = folder / "twin"
    shop.make_repository(twin, (made.folder / "definitions.py").read_text())
    text = shop.STORE.replace("project: shop", f"project: {made.project}")
    (twin / "feature_store.yaml").write_text(text)
    log = twin / "data" / "log"
    for one in records:
        path = log / made.topic(one.topic) / f"{one.partition}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(one.line + b"\n")
    settings = DataflowSettings.for_repo(twin, shards=3, offline_publish_seconds=0.0)
    repository = load_repository(twin)
    places = default_places(repository, settings)
    run_flow(repository, settings, places, until_end=True)
    return digests(repository, places)


def digests(repository: Repository, places: Places) -> dict[str, str]:
    """What a run left behind, by store."""
    project = repository.store.project
    if isinstance(places.online, RedisConfig):
        found = {"online": digest_redis(places.online, project, repository.plan.views)}
    else:
        found = {"online": digest_sqlite(places.online.path, project)}
    for view, folder in places.offline.items():
        found[view] = digest_parquet(folder)
    for table in ("examples", "outcomes"):
        found[table] = digest_parquet(places.examples / "late_order" / table)
    return {**found, "models": digest_models(places.models)}


def progress(made: RealShop) -> Progress | None:
    """What the (one) worker last said; None before its first word."""
    try:
        found = read_progress(made.settings.state_dir)
    except FileNotFoundError:
        return None
    return found[0] if found else None


def events(made: RealShop) -> int:
    """Records read by the run that is on."""
    said = progress(made)
    return 0 if said is None else said.events


def wait_for(
    what: str, is_so: Callable[[], bool], process: subprocess.Popen[str] | None = None
) -> None:
    """Wait until something is so; fail if that takes too long or the process ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended before {what}: {process.communicate()[1][-2000:]}")
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS:g} s"
        time.sleep(0.005)


def stop(process: subprocess.Popen[str]) -> tuple[int, str]:
    """SIGTERM; exit code and error output."""
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, error
