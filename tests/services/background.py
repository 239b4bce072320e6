"""Real Kafka and Redis that stay when the command ends: started once, found again, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.services.kafka import FOR_LONG, KafkaBroker
from tests.services.provision import kafka_jars, redis_program
from tests.services.redis import RedisServer
from tests.services.server import Server, ServerError, is_taken

KAFKA_PORTS = (9092, 9093)  # of the clients and of the controller
REDIS_PORT = 6379
END_SECONDS_MAX = 30.0


def start_all(folder: Path, kafka_ports: tuple[int, int], redis_port: int) -> Iterator[str]:
    """Start what does not run yet, with data in ``folder``; say what was done, line by line.

    Raises:
        MissingServiceError: something has to be installed first.
        ServerError: a port is taken by somebody else, or a server does not start.
    """
    kafka_jars()
    redis_program()
    broker = KafkaBroker(folder / "kafka", ports=kafka_ports, java_options=FOR_LONG)
    redis = RedisServer(folder / "redis", port=redis_port)
    yield _start(broker, kafka_ports)
    yield _start(redis, (redis_port,))
    yield f"export KAFKA_BOOTSTRAP_SERVERS={broker.bootstrap_servers}"
    yield f"export REDIS_URL={redis.url}"


def stop_all(folder: Path) -> Iterator[str]:
    """End what runs with data in ``folder``, which is kept; say what was done, line by line."""
    for name in ("kafka", "redis"):
        pid = _running_pid(folder / name)
        if pid is not None:
            _end(pid)
        (folder / name / "pid").unlink(missing_ok=True)
        yield f"{name} does not run" if pid is None else f"{name} ended"


def _start(server: Server, ports: tuple[int, ...]) -> str:
    pid_file = server.folder / "pid"
    if _running_pid(server.folder) is not None and server.answers():
        return f"{server!r} runs already"
    for port in ports:
        if is_taken(port):
            raise ServerError(
                f"{server!r} cannot start: port {port} of 127.0.0.1 is taken by another program; "
                "end that, or set KAFKA_BOOTSTRAP_SERVERS and REDIS_URL to servers that you have"
            )
    server.start_to_stay()
    pid_file.write_text(f"{server.pid} {_birth(server.pid)}", encoding="utf-8")
    return f"{server!r} started, log in {server.folder / 'server.log'}"


def _running_pid(folder: Path) -> int | None:
    """The id of the process that was started in ``folder``, if it is still that process."""
    pid_file = folder / "pid"
    if not pid_file.exists():
        return None
    pid, _, birth = pid_file.read_text(encoding="utf-8").partition(" ")
    return int(pid) if pid.isdecimal() and birth and _birth(int(pid)) == birth else None


def _birth(pid: int) -> str:
    """When a process began, so that a later one with the same id is not taken for it."""
    if not Path("/proc/self/stat").exists():
        asked = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True
        )
        return asked.stdout.strip()
    try:
        # The name, in brackets, may have anything in it.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie has ended: only nobody has asked yet how.
    return "" if fields[0] == "Z" else fields[19]


def _end(pid: int) -> None:
    birth = _birth(pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)
        if _came_true(lambda: _birth(pid) != birth):
            return
    raise ServerError(f"process {pid} does not end")


def _came_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + END_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
