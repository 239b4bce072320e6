"""Commands of ``headwater`` as processes of their own, forked from one that has imported all."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TextIO

from contracts.settings import PREFIX

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
# Several tests wait at the same time: looking too often takes the cores from what is waited for.
LOOK_SECONDS_MIN, LOOK_SECONDS_MAX = 0.005, 0.05
# What a run says every five seconds.
_PROGRESS = re.compile(r"[\d,]+ events, ")
_SUMMARY = re.compile(r"^([\d,]+) events .* ([\d,]+) bad", re.MULTILINE)


class Commands:
    """Starts commands; each takes some tenths of a second, not the seconds that imports take."""

    def __init__(self, folder: Path, shared: Path | None = None) -> None:
        """What commands say goes to files in ``folder``; ``shared``: socket of a runner to use."""
        self._folder = folder
        self._started = 0
        self._process: subprocess.Popen[str] | None = None
        if shared is None:
            self._process = launch_runner()
            assert self._process.stdin
            assert self._process.stdout
            self._requests: IO[str] = self._process.stdin
            self._answers: IO[str] = self._process.stdout
        else:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(shared))
                self._requests = connection.makefile("w")
                self._answers = connection.makefile("r")

    def start(self, environment: Mapping[str, str], *arguments: str) -> Command:
        """``headwater ARGUMENTS`` with more variables in its environment."""
        self._started += 1
        output = self._folder / f"{self._started}.txt"
        request = {"arguments": arguments, "environment": environment, "output": str(output)}
        return Command(self, self.ask(request), output)

    def run(
        self,
        folder: Path,
        *arguments: str,
        given: str | None = None,
        seconds: float = PATIENCE_SECONDS,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """``headwater ARGUMENTS`` in a folder, to its end, with ``given`` as its standard input."""
        self._started += 1
        places = (self._folder / f"{self._started}.{name}" for name in ("in", "out", "err"))
        given_to, output, errors = places
        given_to.write_text(given or "")
        request = {
            "arguments": arguments,
            "environment": environment,
            "folder": str(folder),
            "input": str(given_to),
            "output": str(output),
            "errors": str(errors),
        }
        code = Command(self, self.ask(request), output).wait(seconds)
        return subprocess.CompletedProcess(
            ["headwater", *arguments], code, output.read_text(), errors.read_text()
        )

    def start_runner(self, repository: Path) -> tuple[int, TextIO, TextIO]:
        """A process of ``tests.flow.runner``: its pid, where requests go, where answers come."""
        self._started += 1
        requests, answers = (self._folder / f"{self._started}.{name}" for name in ("in", "out"))
        for path in (requests, answers):
            os.mkfifo(path)
        places = {"requests": str(requests), "answers": str(answers)}
        pid = self.ask({"repository": str(repository), **places})
        return pid, requests.open("w"), answers.open()

    def ask(self, request: Mapping[str, Any]) -> Any:
        """The runner's answer."""
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return json.loads(self._answers.readline())

    def close(self) -> None:
        """End the process, or our part of a shared one."""
        self._requests.close()
        if self._process is not None:
            self._process.wait(PATIENCE_SECONDS)
        self._answers.close()


def launch_runner(*listening: int) -> subprocess.Popen[str]:
    """The process that commands are forked from; ``listening``: a socket that it is to serve."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.runner", *map(str, listening)],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=listening,
    )


class Command:
    """One of them.

    Attributes:
        pid: its process.
    """

    def __init__(self, commands: Commands, pid: int, output: Path) -> None:
        self._commands = commands
        self._output = output
        self._code: int | None = None
        # Can be waited for though it is no child of ours.
        self._end = os.pidfd_open(pid)
        self.pid = pid

    @property
    def output(self) -> str:
        """All that it has said."""
        return self._output.read_text() if self._output.exists() else ""

    @property
    def counts(self) -> dict[str, int]:
        """What its last line says that it read."""
        found = _SUMMARY.search(self.output)
        assert found, f"no summary: {self.output}"
        numbers = (int(number.replace(",", "")) for number in found.groups())
        return dict(zip(("events", "bad"), numbers, strict=True))

    def poll(self) -> int | None:
        """Its exit code (-9 if it was killed), None while it runs."""
        return self._code_within(0.0)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code; fail if it runs on."""
        code = self._code_within(seconds)
        if code is None:
            self.signal(signal.SIGABRT)
            self._code_within(PATIENCE_SECONDS)
            raise AssertionError(f"it ran on for {seconds:g} s: {self.output[-8000:]}")
        return code

    def _code_within(self, seconds: float) -> int | None:
        """Its exit code as soon as it ends; None if it runs on for so many seconds."""
        if self._code is None:
            looking = select.poll()
            looking.register(self._end, select.POLLIN)
            if looking.poll(seconds * 1000):
                self._code = self._commands.ask({"pid": self.pid})
                os.close(self._end)
        return self._code

    def succeed(self) -> dict[str, int]:
        """Wait for a good end; what it read."""
        assert self.wait() == 0, self.output[-2000:]
        return self.counts

    def refuse(self, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait for an end with exit code 1 and one line about it, after its progress; that line."""
        assert self.wait(seconds) == 1, self.output[-2000:]
        lines = [line for line in self.output.splitlines() if not _PROGRESS.match(line)]
        assert len(lines) == 1, self.output[-3000:]
        assert lines[0].startswith("headwater: ")
        assert "defect" not in lines[0], lines[0]
        return lines[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    def stop(self, seconds: float = PATIENCE_SECONDS) -> int:
        """SIGTERM; its exit code, within so many seconds."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> int:
        """SIGKILL; its exit code, which is 0 if it had come to its end before."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()


def wait_for(
    what: str,
    is_so: Callable[[], bool],
    command: Command | None = None,
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Wait until something is so; fail if that takes too long or the command ends before."""
    began = looked = time.monotonic()
    while not is_so():
        if command is not None and command.poll() is not None:
            raise AssertionError(f"ended before {what}: {command.output[-2000:]}")
        now = time.monotonic()
        assert now < began + seconds, f"{what}: not within {seconds:g} s"
        pause_seconds = min(LOOK_SECONDS_MAX, LOOK_SECONDS_MIN + (now - began) / 10)
        time.sleep(max(pause_seconds, now - looked))
        looked = time.monotonic()
