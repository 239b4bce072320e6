"""What all tests share: hypothesis profiles, a clean environment, real Kafka and Redis."""

from __future__ import annotations

import fcntl
import gc
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import prometheus_client
import pytest
from hypothesis import settings
from kafka import KafkaAdminClient

import dataflows.definitions
from contracts.processes import PROCESSES
from contracts.settings import PREFIX
from tests.integration.commands import Commands
from tests.kafka_sockets import close_what_fails
from tests.order import LONGEST
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka, OutsideRedis
from tests.services.provision import (
    MissingServiceError,
    jars_are_there,
    java_program,
    kafka_jars,
    redis_program,
)
from tests.services.redis import KEEP_NOTHING, RedisServer
from tests.shared import Shared, shared_commands, shared_kafka

# Below the time that pytest-timeout gives a test with all that it waits for.
JARS_SECONDS_MAX = 90.0
SHARED = pytest.StashKey[Shared]()
OURS = {f"{PREFIX}{name.upper()}" for process in PROCESSES for name in process.model_fields}

# Imported before any test imports Feast, which sets a variable that makes Prometheus add up what
# all registries of a process count.
_PROMETHEUS_FIRST = prometheus_client
# Before any test imports Feast too, which takes a quarter of the time then.
_FEAST_CHECKS_FIRST = dataflows.definitions

close_what_fails()

# A worker has half a million objects; to look at all of them takes half a second.
gc.set_threshold(50_000, 20, 50)

# Numba compiles during the first example, so single examples have no deadline: pytest-timeout
# watches the whole test. CI repeats the same examples so that a red run can be run again.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, if xdist leaves it so: ``--no-loadscope-reorder``."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.location[0], len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of xdist where to find what all of them share."""
    if SHARED not in node.config.stash:
        node.config.stash[SHARED] = Shared()
        node.config.stash[SHARED].prepare()
    node.workerinput["shared"] = str(node.config.stash[SHARED].folder)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """One process of xdist collects before all others.

    In a new clone it writes the bytecode of all that is imported, a third of a minute's work, which
    the others would all do at the same time.
    """
    if not hasattr(session.config, "workerinput"):
        return (yield)
    with Path(__file__).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
        return (yield)


def pytest_collection_finish() -> None:
    """What was imported stands until the end: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Start what the processes of xdist share, once all is compiled that each would compile itself.

    They are there by now and import what they test; none begins before this is over.
    """
    shared = session.config.stash.get(SHARED, None)
    if shared is not None:
        shared.wait_until_prepared()
        shared.start_forking()
        if jars_are_there() and OutsideKafka.named_in(os.environ) is None:
            shared.start_kafka()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what was shared."""
    gc.unfreeze()
    if (shared := config.stash.get(SHARED, None)) is not None:
        shared.end()


@pytest.fixture(scope="session")
def shared_folder(request: pytest.FixtureRequest) -> Path | None:
    """Where to find what all processes of xdist share; None if there is but this one."""
    told: dict[str, Any] = getattr(request.config, "workerinput", {})
    return Path(told["shared"]) if "shared" in told else None


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees only the settings that it makes itself."""
    for name in OURS & os.environ.keys():
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def without_service() -> Callable[[str], NoReturn]:
    """To be called with what is missing: skips, or fails with HEADWATER_REQUIRE_SERVICES=1."""

    def give_up(what: str) -> NoReturn:
        if os.environ.get("HEADWATER_REQUIRE_SERVICES") == "1":
            pytest.fail(f"{what} is missing, and HEADWATER_REQUIRE_SERVICES=1", pytrace=False)
        pytest.skip(f"{what} is missing on this machine")

    return give_up


@pytest.fixture(scope="session")
def _kafka_to_be_had(without_service: Callable[[str], NoReturn]) -> None:
    try:
        java_program()
        kafka_jars(JARS_SECONDS_MAX)
    except MissingServiceError as missing:
        without_service(f"Kafka ({missing})")


@pytest.fixture(scope="session")
def _redis_to_be_had(without_service: Callable[[str], NoReturn]) -> None:
    try:
        redis_program()
    except MissingServiceError as missing:
        without_service(f"Redis ({missing})")


@pytest.fixture(scope="session")
def commands(
    tmp_path_factory: pytest.TempPathFactory, shared_folder: Path | None
) -> Iterator[Commands]:
    """What commands are forked from where their own start is not what is tested."""
    shared = shared_commands(shared_folder) if shared_folder else None
    started = Commands(tmp_path_factory.mktemp("commands"), shared)
    yield started
    started.close()


@pytest.fixture(scope="session")
def kafka_broker(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    shared_folder: Path | None,
) -> Iterator[KafkaBroker | OutsideKafka]:
    """Kafka for all tests: the one of KAFKA_BOOTSTRAP_SERVERS, or our own. Never to be stopped."""
    outside = OutsideKafka.named_in(os.environ)
    if outside is not None:
        yield outside
        return
    request.getfixturevalue("_kafka_to_be_had")
    shared = shared_kafka(shared_folder) if shared_folder else None
    if shared is not None:
        yield OutsideKafka(shared)
        return
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer | OutsideRedis]:
    """Redis for all tests: the one of REDIS_URL, or our own. Never to be stopped or flushed."""
    outside = OutsideRedis.named_in(os.environ)
    if outside is not None:
        yield outside
        return
    request.getfixturevalue("_redis_to_be_had")
    server = RedisServer(tmp_path_factory.mktemp("redis"), *KEEP_NOTHING)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def _own_broker(
    _kafka_to_be_had: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.kill()


@pytest.fixture
def own_broker(_own_broker: KafkaBroker) -> KafkaBroker:
    """One for all tests of a file, which runs and which each of them may stop or kill."""
    _own_broker.start()
    return _own_broker


@pytest.fixture
def new_kafka_broker(
    _kafka_to_be_had: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., KafkaBroker]]:
    """Makes and starts a broker of the test's own, which it may stop, kill and start again.

    ``new_kafka_broker(listeners=None, scram_users=None, **properties)``: see KafkaBroker. A
    property without a dot in it may be written with underscores: ``message_max_bytes="1000"``.
    """
    started: list[KafkaBroker] = []

    def make(
        listeners: Mapping[str, str] | None = None,
        scram_users: Mapping[str, str] | None = None,
        **properties: str,
    ) -> KafkaBroker:
        broker = KafkaBroker(
            tmp_path_factory.mktemp("kafka"),
            listeners=listeners,
            scram_users=scram_users,
            properties={
                name if "." in name else name.replace("_", "."): value
                for name, value in properties.items()
            },
        )
        started.append(broker)
        broker.start()
        return broker

    yield make
    for broker in started:
        broker.kill()


@pytest.fixture
def new_redis_server(
    _redis_to_be_had: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., RedisServer]]:
    """Makes and starts a Redis of the test's own; keeps its data when it is stopped or killed.

    ``new_redis_server(*arguments)``: options of redis-server, ``"--maxmemory", "10mb"``.
    """
    started: list[RedisServer] = []

    def make(*arguments: str) -> RedisServer:
        server = RedisServer(tmp_path_factory.mktemp("redis"), *arguments)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def new_topic(kafka_broker: KafkaBroker | OutsideKafka) -> Iterator[Callable[..., str]]:
    """Makes a topic that nobody else has on ``kafka_broker``: ``new_topic(partitions=1)``."""
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)

    def make(partitions: int = 1) -> str:
        name = f"test-{uuid.uuid4().hex}"
        admin.create_topics({name: {"num_partitions": partitions}}, wait_for_metadata=True)
        return name

    yield make
    admin.close()


@pytest.fixture
def redis_project() -> str:
    """The name of a Feast project that nobody else has in Redis."""
    return f"test_{uuid.uuid4().hex}"
