"""Several scorers that share one port: each has its own loop, models, connections and metrics.

The kernel shares out connections (SO_REUSEPORT), so a caller with one connection meets one process.
A process that dies, or hangs, is started again; one that keeps dying ends them all.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from contracts.scorer_settings import ScorerSettings
from contracts.settings import PREFIX, split_address
from scorer.errors import ConfigurationError
from scorer.heartbeat import Pulse
from scorer.metrics_gathering import process_address, show_gathered

_READY_SECONDS_MAX = 60.0
_LOOK_SECONDS = 0.1
# Beside the grace that the processes themselves give to calls under way.
_STOP_SECONDS = 5.0
_DEATHS_MAX = 5
_DEATHS_SECONDS = 60.0
# One that hangs in a function ends by itself, and says in which, if it is given this moment.
_LAST_WORDS_SECONDS = 1.0
_log = structlog.get_logger()


class ProcessDiedError(Exception):
    """A process ended by itself too often, or before it was ready."""


@dataclass
class _Child:
    """One of the processes."""

    number: int
    process: subprocess.Popen[bytes]
    pulse: Pulse | None = None


def serve_together(settings: ScorerSettings, repo_dir: Path, ready: Callable[[str], None]) -> None:
    """Run ``settings.scorer_processes`` scorers until SIGTERM or SIGINT, then end them gracefully.

    Args:
        settings: of all of them; they read them again, from the same environment.
        repo_dir: folder with ``feature_store.yaml``.
        ready: called once with the address when all answer.

    Raises:
        ConfigurationError: the address or that of the metrics is taken.
        ProcessDiedError: a process did not get ready, or died again and again.
    """
    stopping: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {one: signal.signal(one, lambda number, _: stopping.append(number)) for one in signals}
    try:
        with contextlib.ExitStack() as stack:
            address = stack.enter_context(_reserved(settings.scorer_address))
            if settings.metrics_address:
                processes = settings.scorer_processes
                stack.callback(show_gathered(settings.metrics_address, processes))
            group = _Group(settings, repo_dir, address, lambda: bool(stopping))
            stack.callback(group.stop)
            group.start()
            if not stopping:
                ready(address)
            while not stopping:
                group.look(_LOOK_SECONDS)
            _log.info("stopping", processes=settings.scorer_processes)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class _Group:
    """The processes, and what keeps them up."""

    def __init__(
        self,
        settings: ScorerSettings,
        repo_dir: Path,
        address: str,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._repo_dir = repo_dir
        self._address = address
        self._is_stopping = is_stopping
        self._children: list[_Child] = []
        self._deaths: list[float] = []

    def start(self) -> None:
        """Start all, and wait until all answer, or until all are to stop."""
        for number in range(self._settings.scorer_processes):
            self._children.append(_Child(number, self._started(number)))
        deadline = time.monotonic() + _READY_SECONDS_MAX
        for child in self._children:
            _wait_until_ready(child, deadline, self._is_stopping)
            # It was heard already: that it serves, and maybe its first beat in the same breath.
            self._listen(child, self._settings.stuck_seconds + _LAST_WORDS_SECONDS)

    def look(self, seconds: float) -> None:
        """Wait a little, and start again what has died; end what hangs."""
        time.sleep(seconds)
        for child in self._children:
            code = child.process.poll()
            # A signal to all of a process group ends them before we end them.
            if self._is_stopping():
                continue
            now = time.monotonic()
            if code is None:
                if child.pulse is not None and child.pulse.is_lost(now):
                    _log.error("process_stuck", process=child.number)
                    child.process.kill()
                continue
            self._deaths = [one for one in self._deaths if now - one < _DEATHS_SECONDS] + [now]
            if len(self._deaths) > _DEATHS_MAX:
                raise ProcessDiedError(
                    f"{len(self._deaths)} scorer processes ended within {_DEATHS_SECONDS:g} s, the "
                    f"last with exit code {code}; the log above says why"
                )
            _log.error("process_died", process=child.number, exit_code=code)
            _close(child)
            child.process = self._started(child.number)
            self._listen(child, _READY_SECONDS_MAX)

    def stop(self) -> None:
        """End all: gracefully, and what does not end so by force."""
        for child in self._children:
            child.process.terminate()
        deadline = time.monotonic() + self._settings.grace_seconds + _STOP_SECONDS
        for child in self._children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.warning("process_killed", process=child.number)
                child.process.kill()
                child.process.wait()
            _close(child)

    def _listen(self, child: _Child, start_seconds_max: float) -> None:
        output = child.process.stdout
        assert output is not None
        if limit := self._settings.stuck_seconds:
            child.pulse = Pulse(
                output.fileno(),
                start_seconds_max=start_seconds_max,
                silence_seconds_max=limit + _LAST_WORDS_SECONDS,
                look_seconds_max=10 * _LOOK_SECONDS,
            )

    def _started(self, number: int) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            f"{PREFIX}SCORER_ADDRESS": self._address,
            f"{PREFIX}METRICS_ADDRESS": process_address(self._settings.metrics_address, number),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "scorer", "--sharing-port", str(self._repo_dir)],
            # It ends when this pipe does, so that none is left behind.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )


@contextlib.contextmanager
def _reserved(address: str) -> Iterator[str]:
    """The address with the port that port 0 stands for, kept from others as long as the context.

    Raises:
        ConfigurationError: somebody listens there.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = ConfigurationError(
        f"cannot listen on {address}: set HEADWATER_SCORER_ADDRESS to a free one"
    )
    try:
        # Who shares a port does not notice strangers that do so too: first ask for it alone.
        with socket.socket(family) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
            alone.listen(1)
            port = alone.getsockname()[1]
        shared = socket.socket(family)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((host, port))
    except OSError as error:
        raise taken from error
    with shared:
        yield f"{address.rpartition(':')[0]}:{port}"


def _wait_until_ready(child: _Child, deadline: float, is_stopping: Callable[[], bool]) -> None:
    output = child.process.stdout
    assert output is not None
    is_told: list[object] = []
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while not is_told and time.monotonic() < deadline:
            if is_stopping():
                return
            is_told = [*selector.select(_LOOK_SECONDS)]
    if not is_told or not output.readline().startswith(b"serving on "):
        if is_stopping():
            return
        raise ProcessDiedError(
            f"scorer process {child.number} did not start; the log above says why"
        )


def _close(child: _Child) -> None:
    for pipe in (child.process.stdin, child.process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
