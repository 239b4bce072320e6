"""`make services` and `make services-down`, with other ports and another folder."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.services.provision import ROOT
from tests.services.server import free_ports, is_taken

pytestmark = pytest.mark.services
Command = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ports() -> list[int]:
    """Of Kafka, of its controller, of Redis."""
    return free_ports(3)


@pytest.fixture
def command(
    _kafka_to_be_had: None, _redis_to_be_had: None, tmp_path: Path, ports: list[int]
) -> Iterator[Command]:
    """Runs ``python -m tests.services VERB``."""

    def run(verb: str) -> subprocess.CompletedProcess[str]:
        where = ["--folder", str(tmp_path), "--redis-port", str(ports[2])]
        where += ["--kafka-ports", str(ports[0]), str(ports[1])]
        return subprocess.run(
            [sys.executable, "-m", "tests.services", verb, *where],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

    yield run
    run("down")


def test_services_stay_are_found_again_and_end(command: Command, ports: list[int]) -> None:
    """They outlive the command; a second start changes nothing; ended, they leave their ports."""
    first = command("up")
    assert first.returncode == 0, first.stderr
    assert f"export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{ports[0]}\n" in first.stdout
    assert f"export REDIS_URL=redis://127.0.0.1:{ports[2]}/0\n" in first.stdout
    with Redis(port=ports[2]) as client:
        client.set("key", "value")
        assert command("up").stdout.count("runs already") == 2
        assert client.get("key") == b"value"
    ended = command("down")
    assert ended.stdout == "kafka ended\nredis ended\n"
    assert not any(is_taken(port) for port in ports)
    assert command("down").stdout == "kafka does not run\nredis does not run\n"


def test_a_port_of_somebody_else_is_left_alone(command: Command, ports: list[int]) -> None:
    """A port that is taken is an error that names it and says what to do."""
    with socket.create_server(("127.0.0.1", ports[0])):
        refused = command("up")
    assert refused.returncode == 1
    assert f"port {ports[0]} of 127.0.0.1 is taken" in refused.stderr
    assert "KAFKA_BOOTSTRAP_SERVERS" in refused.stderr
    assert "Traceback" not in refused.stderr
