"""A server process of the tests: started, watched until it answers, ended by its own id."""

from __future__ import annotations

import atexit
import random
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOG_TAIL_LINES = 25
# Outside of what the kernel gives to clients: nobody takes the port while a server is down.
PORTS = range(20_000, 32_000)
# A process tied to us dies with the thread that started it: this one lives as long as we do.
_LAUNCHER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="services")


class ServerError(Exception):
    """A server does not start, or is not there; the message has the end of its log."""


def is_taken(port: int) -> bool:
    """Whether a port of 127.0.0.1 cannot be listened on."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 on which nobody listens."""
    candidates = random.SystemRandom().sample(PORTS, len(PORTS))
    free = (port for port in candidates if not is_taken(port))
    return [next(free) for _ in range(count)]


class Server:
    """One process on 127.0.0.1, which keeps its port and data from start to start.

    Subclasses say what to run and when it answers. The process ends with ours, however ours ends
    (where Linux's setpriv is to be had). To be used by one thread at a time.

    Attributes:
        folder: its data, its settings, and ``server.log`` with all that it ever printed.
        start_seconds_max: longest wait for the first answer.
        stop_seconds_max: longest wait for its end after SIGTERM.
    """

    start_seconds_max = 60.0
    stop_seconds_max = 30.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What to run; makes the files that it needs."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves by now; says so within a few seconds."""
        raise NotImplementedError

    @property
    def is_running(self) -> bool:
        """Whether the process is there; it may be paused."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Id of the running process.

        Raises:
            ServerError: it does not run.
        """
        if self._process is None or not self.is_running:
            raise ServerError(f"{self!r} does not run\n{self.log_tail()}")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers; nothing happens if it runs.

        Raises:
            ServerError: it ends, or does not answer in time.
        """
        if not self.is_running:
            setpriv = shutil.which("setpriv")
            tied = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
            self._process = _LAUNCHER.submit(self._launch, tied, stays=False).result()
            atexit.register(self.kill)
            self._wait_for_an_answer(self._process)

    def start_to_stay(self) -> None:
        """As ``start``, but the process lives on when ours ends."""
        if not self.is_running:
            self._process = self._launch([], stays=True)
            self._wait_for_an_answer(self._process)

    def stop(self) -> None:
        """End it in good order (SIGTERM) and wait; nothing happens if it does not run.

        Raises:
            ServerError: it does not end in time; it is killed then.
        """
        if self._process is None or not self.is_running:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(self.stop_seconds_max)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(
                f"{self!r} ran on {self.stop_seconds_max:g} s after SIGTERM\n{self.log_tail()}"
            ) from None

    def kill(self) -> None:
        """End it at once (SIGKILL) and wait; nothing happens if it does not run."""
        atexit.unregister(self.kill)
        if self._process is not None:
            self._process.kill()
            self._process.wait(self.stop_seconds_max)

    def pause(self) -> None:
        """Let it hang (SIGSTOP): connections stay, nobody answers; ServerError if it is gone."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``pause``; ServerError if it is gone."""
        self._signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The last lines that it printed."""
        log = self.folder / "server.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _signal(self, number: signal.Signals) -> None:
        assert self.pid
        assert self._process is not None
        self._process.send_signal(number)

    def _launch(self, prefix: list[str], *, stays: bool) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = prefix + self.command()
        with (self.folder / "server.log").open("ab") as log:
            # Ctrl-C must end all but those that stay.
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=stays,
            )

    def _wait_for_an_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.start_seconds_max
        while not self.answers():
            if process.poll() is not None:
                raise ServerError(f"{self!r} ended with {process.returncode}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(
                    f"{self!r} gave no answer in {self.start_seconds_max:g} s\n{self.log_tail()}"
                )
            time.sleep(0.05)
