"""A real Apache Kafka, one broker in KRaft mode, on ports of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.services.kafka_start import (
    FOR_A_TEST,
    FOR_LONG,
    class_archive,
    format_folder,
    java_for_kafka,
    java_that_archives,
    lay_down_folder,
)
from tests.services.server import Server, free_ports

__all__ = ["FOR_A_TEST", "FOR_LONG", "KafkaBroker", "archive_classes"]

# One broker has to do with one copy of everything.
SINGLE = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A broker that was killed may come back when the session of its former self is over.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
}


class KafkaBroker(Server):
    """One broker on 127.0.0.1, with a PLAINTEXT listener and as many others as are wanted.

    TLS and SASL, for example::

        KafkaBroker(
            folder,
            listeners={"SAFE": "SASL_SSL"},
            scram_users={"ada": "her password"},
            properties={
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
                "listener.name.safe.plain.sasl.jaas.config": "org.apache.kafka.common.security"
                '.plain.PlainLoginModule required user_ada="her password";',
                "listener.name.safe.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common"
                ".security.scram.ScramLoginModule required;",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": "/folder/key-and-certificate.pem",
            },
        ).address("SAFE")

    Attributes:
        port: of the PLAINTEXT listener; all ports stay the same after a restart.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ports: tuple[int, int] | None = None,
        listeners: Mapping[str, str] | None = None,
        scram_users: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        java_options: tuple[str, ...] = FOR_A_TEST,
        archive_to: Path | None = None,
    ) -> None:
        """Keep data in ``folder``.

        Args:
            folder: made if it is not there.
            ports: of the PLAINTEXT listener and the controller; free ones by default. With ports of
                its own it can be ended and found again later.
            listeners: more of them: name (capitals) and security protocol.
            scram_users: names and passwords, for SCRAM-SHA-256 and SCRAM-SHA-512.
            properties: of the broker; they go before ours.
            java_options: of the virtual machine.
            archive_to: where to leave what makes later brokers start faster, at ``stop``.
        """
        super().__init__(folder)
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        found = [*(ports or free_ports(2)), *free_ports(len(protocols) - 2)]
        self._ports = dict(zip(protocols, found, strict=True))
        self.port = self._ports["PLAINTEXT"]
        self._scram_users = scram_users or {}
        self._java_options = java_options
        self._archive_to = archive_to
        self._is_for_once = ports is None
        self._properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            **self._quorum(),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(f"{name}://{self.address(name)}" for name in protocols),
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in protocols.items()
            ),
            "log.dir": str(folder / "data"),
            **SINGLE,
            **(properties or {}),
        }

    def __repr__(self) -> str:
        return f"Kafka at {self.bootstrap_servers}"

    @property
    def bootstrap_servers(self) -> str:
        """``127.0.0.1:PORT`` of the PLAINTEXT listener."""
        return self.address("PLAINTEXT")

    def address(self, listener: str) -> str:
        """``127.0.0.1:PORT`` of a listener by its name."""
        return f"127.0.0.1:{self._ports[listener]}"

    def command(self) -> list[str]:
        """The broker, whose data folder is made before its first start."""
        settings = self.folder / "server.properties"
        lines = [f"{name}={value}\n" for name, value in self._properties.items()]
        settings.write_text("".join(lines), encoding="utf-8")
        if not (self.folder / "data" / "meta.properties").exists():
            self._make_data(settings)
        if self._archive_to is None:
            java = java_for_kafka(self._java_options)
        else:
            java = java_that_archives(self._java_options, self._archive_to)
        return [*java, "kafka.Kafka", str(settings)]

    def answers(self) -> bool:
        """Whether it tells its clients about itself."""
        try:
            # kafka-python leaves sockets open that were refused, so it is not asked to wait.
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            admin = KafkaAdminClient(
                bootstrap_servers=self.bootstrap_servers, bootstrap_timeout_ms=2_000
            )
        except (KafkaError, OSError):
            return False
        try:
            return bool(admin.describe_cluster()["brokers"])
        except (KafkaError, OSError):
            return False
        finally:
            admin.close()

    def _quorum(self) -> dict[str, str]:
        """Who votes: named in the settings, or (where the folder is kept) in the folder."""
        if self._is_for_once:
            return {"controller.quorum.voters": f"1@{self.address('CONTROLLER')}"}
        return {"controller.quorum.bootstrap.servers": self.address("CONTROLLER")}

    def _make_data(self, settings: Path) -> None:
        if self._is_for_once and not self._scram_users:
            lay_down_folder(self.folder / "data")
            return
        more = [] if self._is_for_once else ["--standalone"]
        for name, password in self._scram_users.items():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                more += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        format_folder(java_for_kafka(self._java_options), settings, *more)


def archive_classes(folder: Path) -> None:
    """Have brokers that start from now on find their classes as Java has them in memory.

    Takes some seconds, once; nothing happens where that was done. ``folder`` is for a broker.

    Raises:
        MissingServiceError: there is no Java, or there are no jars.
        ServerError: the broker does not start or end.
    """
    if class_archive().exists():
        return
    # Renamed when whole: others may look meanwhile.
    made = class_archive().with_suffix(f".{os.getpid()}")
    broker = KafkaBroker(folder, archive_to=made)
    try:
        broker.start()
        broker.stop()
        made.replace(class_archive())
    finally:
        broker.kill()
        made.unlink(missing_ok=True)
