"""compose.yaml: what it promises, and its commands run by hand, in its order, on real services."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.services.kafka import KafkaBroker
from tests.services.redis import RedisServer
from tests.services.server import free_ports

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
ONCE = [name for name, service in SERVICES.items() if service.get("restart") == "no"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SECONDS_MAX = 90.0
# As Docker waits between two checks (it would wait for longer): each is a process, which keeps the
# others from starting.
CHECK_SECONDS = 3.0
# Places of a broker are its container's own; the rest of its settings holds everywhere.
PLACES = ("LISTENERS", "ADVERTISED_LISTENERS", "LISTENER_SECURITY_PROTOCOL_MAP", "LOG_DIRS")
DEPARTED = {
    "flight_id": "f1",
    "event_timestamp": "2013-01-01T10:00:00Z",
    "carrier": "UA",
    "tailnum": "N14228",
    "origin": "EWR",
    "dest": "IAH",
    "dep_delay": 7.5,
}
KEYS = [f"{key}={DEPARTED[key]}" for key in ("carrier", "dest", "origin", "tailnum")]


def _started_in_order() -> list[str]:
    graph = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    return list(TopologicalSorter(graph).static_order())


def test_who_stays_has_a_health_check() -> None:
    """Every service that stays has a health check with limits; the one that ends has none."""
    for name, service in SERVICES.items():
        check = service["healthcheck"]
        if name in ONCE:
            assert check == {"disable": True}
        else:
            assert check["test"][0] in ("CMD", "CMD-SHELL"), name
            assert {"interval", "timeout", "retries", "start_period"} <= check.keys(), name


def test_who_needs_another_waits_for_it() -> None:
    """Ours wait until Kafka and Redis are healthy and the definitions have been applied."""
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert how["condition"] == wanted, f"{name} waits for {other}"
    for name in OURS:
        waits_for = SERVICES[name]["depends_on"].keys()
        assert {"kafka", "redis", *(set(ONCE) - {name})} <= waits_for, name


def test_images_are_pinned_and_data_is_kept() -> None:
    """No image moves by itself, data lies in named volumes, no port is open to the network."""
    for name, service in SERVICES.items():
        if name not in OURS:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-[a-z]+)?", service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).is_file(), mount


def test_ours_may_do_little() -> None:
    """Our containers are not root's, cannot gain rights, and write to their data only."""
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE)
    assert not re.search(r"\b(apt-get|pip|uv)\b", last_stage)


def test_the_image_can_send_traces() -> None:
    """What HEADWATER_TRACES_ENDPOINT needs is in the image, in the lock's versions."""
    (install,) = re.findall(
        r"^RUN uv pip install --require-hashes [^\\]*\\\n.*$", DOCKERFILE, re.MULTILINE
    )
    extras = set(re.findall(r"--extra (\w+)", install))
    assert "traces" in extras
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for extra in extras:
        for wanted in project["optional-dependencies"][extra]:
            name = re.match(r"[\w-]+", wanted)
            assert name is not None
            assert f"\n{name[0]}==" in locked, wanted


def test_only_the_online_store_differs() -> None:
    """The mounted feature_store.yaml is that of the repository, with Redis as online store."""
    files = (
        ROOT / "feature_repo" / "feature_store.yaml",
        ROOT / "deploy/compose/feature_store.yaml",
    )
    embedded, real = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)
    assert embedded.pop("online_store")["type"] == "sqlite"
    assert real.pop("online_store")["type"] == "redis"
    assert embedded == real


class _Container:
    """A service of ours, run as a process: its command, environment and health check."""

    def __init__(self, name: str, folder: Path, places: dict[str, str]) -> None:
        self._service = SERVICES[name]
        self.name = name
        self._folder = folder
        self._output = folder / f"{name}.out"
        entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[-1])
        self._command = self._here([*entry, *self._service["command"]])
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(ROOT),
        }
        for variable, value in self._service["environment"].items():
            for place, instead in places.items():
                value = value.replace(place, instead)
            if value.startswith("0.0.0.0:"):
                value = f"127.0.0.1:{free_ports(1)[0]}"
            self._environment[variable] = value
        self.process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def _here(command: list[str]) -> list[str]:
        programs = {"headwater": [sys.executable, "-m", "cli.main"], "python": [sys.executable]}
        return [*programs[command[0]], *command[1:]]

    def start(self) -> None:
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def run(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """`docker compose exec`: another headwater command with the same environment."""
        return subprocess.run(
            self._here(["headwater", *words]),
            cwd=self._folder,
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )

    def is_healthy(self) -> bool:
        kind, *command = self._service["healthcheck"]["test"]
        assert kind == "CMD"
        seconds = int(self._service["healthcheck"]["timeout"].removesuffix("s"))
        checked = subprocess.run(
            self._here(command),
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            # Nothing else runs in a container; here all wait for one another.
            timeout=seconds * 4,
        )
        return checked.returncode == 0

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while not condition():
            assert self.process is None or self.process.poll() in (None, 0), self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(CHECK_SECONDS)

    def end(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(SECONDS_MAX)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def output(self) -> str:
        return f"{self.name}:\n{self._output.read_text(errors='replace')[-3000:]}"


@pytest.fixture
def places(
    new_kafka_broker: Callable[..., KafkaBroker], new_redis_server: Callable[..., RedisServer]
) -> dict[str, str]:
    """Kafka and Redis as compose.yaml sets them up: address there, address here."""
    settings = {
        name.removeprefix("KAFKA_"): value
        for name, value in SERVICES["kafka"]["environment"].items()
    }
    kept = {name: settings[name] for name in settings if name not in PLACES}
    del kept["CONTROLLER_QUORUM_VOTERS"]
    broker = new_kafka_broker(
        listeners={"HOST": "PLAINTEXT", "INTERNAL": "PLAINTEXT"},
        **{name.lower().replace("_", "."): value for name, value in kept.items()},
    )
    program, *arguments = SERVICES["redis"]["command"]
    assert program == "redis-server"
    redis = new_redis_server(*arguments)
    return {"kafka:19092": broker.address("INTERNAL"), "redis:6379": redis.address}


@pytest.fixture
def containers(tmp_path: Path, places: dict[str, str]) -> Iterator[dict[str, _Container]]:
    """Our services in the order of their start, in a folder that looks like the image's."""
    repository = tmp_path / "feature_repo"
    repository.mkdir()
    shutil.copy(ROOT / "feature_repo" / "definitions.py", repository)
    for name in OURS:
        for mount in SERVICES[name]["volumes"]:
            source, target, *_ = mount.split(":")
            if (ROOT / source).is_file():
                shutil.copy(ROOT / source, tmp_path / Path(target).relative_to("/app"))
    order = [name for name in _started_in_order() if name in OURS]
    made = {name: _Container(name, tmp_path, places) for name in order}
    with ExitStack() as stack:
        for container in made.values():
            stack.callback(container.kill)
        yield made


@pytest.mark.services
@pytest.mark.timeout(400)
def test_the_commands_by_hand(containers: dict[str, _Container]) -> None:
    """Each command starts, becomes healthy and ends with 0; an event comes out as a feature."""
    for name, container in containers.items():
        container.start()
        process = container.process
        assert process is not None
        if name in ONCE:
            assert process.wait(SECONDS_MAX) == 0, container.output()
        else:
            container.wait(container.is_healthy)

    dataflow = containers["dataflow"]
    produced = dataflow.run("produce", "flights.departed", given=json.dumps(DEPARTED) + "\n")
    assert produced.returncode == 0, produced.stderr

    def delay() -> Any:
        shown = dataflow.run("features", "late_arrival", *KEYS)
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout)["features"]["tail_departures:dep_delay_last"]["value"]

    dataflow.wait(lambda: bool(delay() == DEPARTED["dep_delay"]))
    for name in reversed([name for name in containers if name not in ONCE]):
        assert containers[name].end() == 0, containers[name].output()
        assert not containers[name].is_healthy()
