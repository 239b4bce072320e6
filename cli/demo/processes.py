"""The dataflow and the scorer as processes of their own, as an operator would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

STOP_SECONDS_MAX = 30.0
# Feast sets these when it is imported; a child would mix its metrics with ours.
_NOT_INHERITED = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")


class DemoError(Exception):
    """The demo cannot go on; the message says what happened and where to look."""


class Process:
    """A ``headwater`` command running in the background, its output in a file."""

    def __init__(self, verb: str, repo: Path, log: Path, settings: Mapping[str, str]) -> None:
        """Start ``headwater VERB --repo REPO``."""
        environment = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
        environment.update(settings)
        self._verb = verb
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", verb, "--repo", str(repo)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def check(self) -> None:
        """Raise DemoError if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"`headwater {self._verb}` ended with {code}: {self._last_line()}")

    def finish(self, seconds_max: float) -> None:
        """Wait for it to end by itself; raise DemoError if it fails."""
        try:
            code = self._process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            raise DemoError(f"`headwater {self._verb}` did not end, see {self._log}") from None
        if code != 0:
            raise DemoError(f"`headwater {self._verb}` ended with {code}: {self._last_line()}")

    def stop(self) -> None:
        """Ask it to end; raise DemoError if it does not end well."""
        self._process.terminate()
        self.finish(STOP_SECONDS_MAX)

    def kill(self) -> None:
        """End it now, whatever it does."""
        self._process.kill()
        self._process.wait()

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'no output'} (all of it in {self._log})"


def wait_until(
    is_done: Callable[[], bool], process: Process, seconds_max: float, poll_seconds: float
) -> None:
    """Poll until it is done; raise DemoError when the process ends or time runs out."""
    deadline = time.monotonic() + seconds_max
    while not is_done():
        process.check()
        if time.monotonic() > deadline:
            raise DemoError(f"waited {seconds_max:.0f} s in vain")
        time.sleep(poll_seconds)


def free_address() -> str:
    """An address on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
