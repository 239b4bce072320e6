"""A real Apache Kafka, one broker in KRaft mode, on ports of its own."""

from __future__ import annotations

import socket
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.services.provision import java_program, kafka_jars
from tests.services.server import Server, ServerError, free_ports

FOR_LONG = ("-Xmx512m", "-XX:+UseSerialGC")
# Starts with a third less of CPU time, and then runs somewhat slower.
FOR_A_TEST = (*FOR_LONG, "-XX:TieredStopAtLevel=1")
FORMAT_SECONDS_MAX = 60
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
    ) -> None:
        """Keep data in ``folder``.

        Args:
            folder: made if it is not there.
            ports: of the PLAINTEXT listener and the controller; free ones by default.
            listeners: more of them: name (capitals) and security protocol.
            scram_users: names and passwords, for SCRAM-SHA-256 and SCRAM-SHA-512.
            properties: of the broker; they go before ours.
            java_options: of the virtual machine.
        """
        super().__init__(folder)
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        found = [*(ports or free_ports(2)), *free_ports(len(protocols) - 2)]
        self._ports = dict(zip(protocols, found, strict=True))
        self.port = self._ports["PLAINTEXT"]
        self._scram_users = scram_users or {}
        self._java_options = java_options
        self._properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": self.address("CONTROLLER"),
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
        java = [java_program(), *self._java_options, "-cp", f"{kafka_jars()}/*"]
        if not (self.folder / "data" / "meta.properties").exists():
            self._format([*java, "kafka.tools.StorageTool"], settings)
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

    def _format(self, tool: list[str], settings: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*tool, "format", "--standalone", f"--cluster-id={cluster}"]
        command += ["-c", str(settings)]
        for name, password in self._scram_users.items():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                command += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_SECONDS_MAX)
        if done.returncode != 0:
            raise ServerError(f"{self!r} cannot make its data folder\n{done.stdout}{done.stderr}")
