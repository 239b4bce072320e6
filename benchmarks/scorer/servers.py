"""The servers, each in a process of its own that says ``serving on HOST:PORT`` when it is ready."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from contracts.settings import PREFIX
from tests.services.server import free_ports

_STARTUP_SECONDS_MAX = 60.0
_STOP_SECONDS_MAX = 15.0
_SAYS = "serving on "
_FEAST = "from feast.cli.cli import cli; cli()"


@dataclass(frozen=True)
class Server:
    """Where it listens, and its process."""

    address: str
    pid: int


@contextmanager
def scorer(folder: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    """The scorer of the Feast repository in ``folder`` with its defaults, as long as the context.

    The prediction log goes to a file, as by default, and the metrics are there to be scraped.

    Args:
        folder: the repository.
        settings: others than the defaults, without their prefix.
    """
    given = {"SCORER_ADDRESS": "127.0.0.1:0", "METRICS_ADDRESS": "127.0.0.1:0", **settings}
    environment = {PREFIX + name: value for name, value in given.items()}
    with running(["-m", "scorer", str(folder)], folder / "scorer.log", environment) as server:
        yield server


@contextmanager
def running(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Iterator[Server]:
    """Python with these arguments, as long as the context.

    Raises:
        RuntimeError: it does not say that it serves; with what it said instead.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            env={**inherited, **environment},
            text=True,
        )
    try:
        yield Server(_address(process, log), process.pid)
    finally:
        _end(process)
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def feast_serve(folder: Path, log: Path) -> Iterator[Server]:
    """``feast serve`` with its defaults, as long as the context.

    But for two of them: no line for each request, and no new worker every 1,000 requests.

    Raises:
        RuntimeError: it does not answer.
    """
    (port,) = free_ports(1)
    options = ["--no-access-log", "--max-requests", "0", "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", _FEAST, "--chdir", str(folder), "serve", *options],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        _wait_until_healthy(process, port, log)
        yield Server(f"127.0.0.1:{port}", process.pid)
    finally:
        _end(process)


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"feast serve does not answer:\n{_tail(log)}")


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + _STARTUP_SECONDS_MAX
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            line = process.stdout.readline()
            if line.startswith(_SAYS):
                return line.split()[-1]
            if not line:
                break
    raise RuntimeError(f"not serving after {_STARTUP_SECONDS_MAX:g} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2_000:]
