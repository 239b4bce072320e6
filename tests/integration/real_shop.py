"""The shop of the flow's tests on real services: its topics in Kafka, its online store in Redis."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import RetriableError

from contracts.online_store import RedisConfig, parse_online_store
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import default_places, run_flow
from dataflows.flow.progress import Progress, read_progress
from dataflows.flow.run_context import Places
from dataflows.stores.digest import digest_models, digest_parquet, digest_redis, digest_sqlite
from tests.flow import shop
from tests.integration.commands import Command, Commands

TOPICS = {"orders": 2, "visits": 1, "outcomes": 1}
PATIENCE_SECONDS = 60.0
# Topic without prefix, partition, offset, record.
Letter = tuple[str, int, int, bytes]


_repository = cache(load_repository)


@dataclass(frozen=True)
class Expected:
    """What a run must come to.

    Attributes:
        digests: by store.
        letters: as ``RealShop.dead_letters``.
        counts: as ``Command.counts``.
        ends: (topic without prefix, partition) -> number of records.
    """

    digests: dict[str, str]
    letters: list[Letter]
    counts: dict[str, int]
    ends: dict[tuple[str, int], int]


@dataclass(frozen=True)
class RealShop:
    """One shop: a repository of its own, topics of its own, a project of its own in Redis.

    Attributes:
        folder: the Feast repository.
        servers: of Kafka.
        redis: ``host:port`` of Redis, with options as in Feast's connection string.
        project: Feast project.
        prefix: of the names of its topics.
        given: settings of its dataflow.
        commands: what runs its commands.
    """

    folder: Path
    servers: str
    redis: str
    project: str
    prefix: str
    given: dict[str, Any] = field(default_factory=dict)
    commands: Commands | None = None

    def topic(self, name: str) -> str:
        """The topic's name in Kafka."""
        return f"{self.prefix}.{name}"

    @cached_property
    def settings(self) -> DataflowSettings:
        """As ``shop.settings``, with Kafka as the log. Made once: tests look at them in loops."""
        chosen = {"shards": 3, "offline_publish_seconds": 0.0, **self.given}
        return DataflowSettings.for_repo(self.folder, log_url=f"kafka://{self.servers}", **chosen)

    @property
    def repository(self) -> Repository:
        """The compiled repository."""
        return _repository(self.folder)

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

    def start(self, verb: str, *arguments: str, **given: Any) -> Command:
        """``headwater VERB ...`` on this repository; ``given`` goes before the shop's settings."""
        chosen = {"shards": 3, "offline_publish_seconds": 0.0, **self.given, **given}
        environment = {f"HEADWATER_{name.upper()}": str(value) for name, value in chosen.items()}
        environment["HEADWATER_LOG_URL"] = f"kafka://{self.servers}"
        assert self.commands, "the fixture new_shop gives them"
        return self.commands.start(environment, verb, "--repo", str(self.folder), *arguments)

    def run_to_end(self, **given: Any) -> dict[str, int]:
        """``headwater run --until-end``: what it read."""
        return self.start("run", "--until-end", **given).succeed()

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

    def progress(self) -> Progress | None:
        """What the (one) worker last said; None before its first word."""
        try:
            found = read_progress(self.settings.state_dir)
        except FileNotFoundError:
            return None
        return found[0] if found else None

    def events(self, run: Command) -> int:
        """Records read by this run; what one before it has said does not count."""
        said = self.progress()
        return 0 if said is None or said.pid != run.pid else said.events

    def has_read(self, expected: Expected) -> bool:
        """Whether the run that is on has read all records there are, and waits for nothing."""
        said = self.progress()
        return (
            said is not None
            and not said.waiting_for
            and len(said.partitions) == len(expected.ends)
            and all(
                said.partitions[f"{self.topic(topic)}/{partition}"].offset >= end
                for (topic, partition), end in expected.ends.items()
            )
        )

    def is_waiting(self) -> bool:
        """Whether the run that is on says that it waits for something."""
        said = self.progress()
        return said is not None and bool(said.waiting_for)

    def committed(self) -> dict[tuple[str, int], int] | None:
        """Offsets of the group that shows the lag: (topic without prefix, partition) -> offset.

        None while the brokers are not ready to keep any.
        """
        group = f"headwater-{self.project}"
        with closing(KafkaAdminClient(bootstrap_servers=self.servers)) as admin:
            try:
                found = admin.list_group_offsets([group])[group]
            except RetriableError:
                return None
        return {
            (place.topic.removeprefix(f"{self.prefix}."), place.partition): int(at.offset)
            for place, at in found.items()
        }

    def dead_letters(self) -> list[Letter]:
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


def run_on_files(made: RealShop, records: list[shop.Record]) -> Expected:
    """A run of the same shop on files and SQLite: what a run on services must come to."""
    twin = made.folder.with_name(f"{made.folder.name}.twin")
    shop.make_repository(twin, (made.folder / "definitions.py").read_text())
    text = shop.STORE.replace("project: shop", f"project: {made.project}")
    (twin / "feature_store.yaml").write_text(text)
    log = twin / "data" / "log"
    ends = dict.fromkeys(places_of_records(), 0)
    letters = []
    for one in records:
        path = log / made.topic(one.topic) / f"{one.partition}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(one.line + b"\n")
        place = (one.topic, one.partition)
        if one.fields is None:
            letters.append((*place, ends[place], one.line))
        ends[place] += 1
    settings = DataflowSettings.for_repo(twin, shards=3, offline_publish_seconds=0.0)
    repository = load_repository(twin)
    places = default_places(repository, settings)
    tally = run_flow(repository, settings, places, until_end=True).tally
    counts = {"events": tally.events, "bad": tally.bad}
    return Expected(digests(repository, places), sorted(letters), counts, ends)


def places_of_records() -> list[tuple[str, int]]:
    """All (topic without prefix, partition)."""
    return [(name, number) for name, count in TOPICS.items() for number in range(count)]


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
