"""Runs of the flow in processes of their own, which tests may stop and kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.integration.commands import Commands

PATIENCE_SECONDS = 60.0


class Runner:
    """Real processes that run the flow, forked from one that has loaded the repository."""

    def __init__(self, commands: Commands, repository: Path) -> None:
        self._commands = commands
        self._pid, self._requests, self._answers = commands.start_runner(repository)
        self._latest = 0

    def start(self, log: Path, out: Path, until_end: int, **settings: Any) -> int:
        """Start a run; give its pid."""
        request = {"log": str(log), "out": str(out), "settings": settings}
        self._latest = int(self._ask({**request, "until_end": bool(until_end)}))
        return self._latest

    def start_several(
        self, log: Path, out: Path, until_end: int, processes: int = 2, **settings: Any
    ) -> list[int]:
        """Start the processes of one run; give their pids."""
        given = {"addresses": ",".join(free_addresses(processes)), **settings}
        return [
            self.start(log, out, until_end, process=number, **given) for number in range(processes)
        ]

    def ended(self, pid: int = 0) -> tuple[int, str]:
        """Wait for a run, the latest if none is named: its exit code (-9 if killed) and error."""
        code, error = self._ask({"pid": pid or self._latest})
        return code, error

    def close(self) -> None:
        """End the process."""
        self._requests.close()
        self._commands.ask({"pid": self._pid})
        self._answers.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return json.loads(self._answers.readline())


def free_addresses(count: int) -> list[str]:
    """Addresses of this machine that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]


def send(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may have come to its end."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def events(out: Path) -> int:
    """How many events the run has read by what its processes say of themselves."""
    found: dict[int, int] = {}
    for path in (out / "state" / "progress").glob("*.json"):
        try:
            said = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        number = said["process"]
        found[number] = max(found.get(number, 0), said["events"])
    return sum(found.values())


def wait_for_events(out: Path, count: int, pid: int) -> bool:
    """Wait until the run has read so many; False if it ended before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while events(out) < count:
        assert time.monotonic() < deadline, f"{count} events never came"
        if not is_alive(pid):
            return False
        time.sleep(0.002)
    return True


def is_alive(pid: int) -> bool:
    """Whether the process runs: one that has ended is a zombie until its end is asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
