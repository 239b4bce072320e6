"""What several processes of tests share: one Kafka, and one process that commands are forked from.

The process that hands out the tests starts both and ends them; the others find them in a folder. A
single process of tests has its own.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration.commands import ROOT, launch_runner
from tests.services.kafka import KafkaBroker
from tests.services.provision import jars_are_there

END_SECONDS_MAX = 60.0
PREPARE_SECONDS_MAX = 300.0


class Shared:
    """Both of them.

    Attributes:
        folder: where the others find them.
    """

    def __init__(self) -> None:
        # Short: a socket's path may have a hundred characters.
        self.folder = Path(tempfile.mkdtemp(prefix="headwater-tests-"))
        self._broker: KafkaBroker | None = None
        self._forking: subprocess.Popen[str] | None = None
        self._preparing: list[subprocess.Popen[bytes]] = []

    def prepare(self) -> None:
        """Begin to compile all kernels, which in a new clone several would otherwise do at once.

        Java's part of it too; where that cannot be done a test will say why.
        """
        modules = ["tests.kernels", "tests.kernels windows"]
        if jars_are_there():
            modules.append("tests.services archive")
        self._preparing = [
            subprocess.Popen([sys.executable, "-m", *module.split()], cwd=ROOT)
            for module in modules
        ]

    def wait_until_prepared(self) -> None:
        """Wait until that is done."""
        kernels, windows, *_ = [one.wait(PREPARE_SECONDS_MAX) for one in self._preparing]
        assert (kernels, windows) == (0, 0)

    def start_forking(self) -> None:
        """Start the process that commands are forked from; who connects waits until it is ready."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(_commands(self.folder)))
            listener.listen()
            self._forking = launch_runner(listener.fileno())

    def start_kafka(self) -> None:
        """Start Kafka and wait until it answers; ServerError if it does not."""
        self._broker = KafkaBroker(self.folder / "kafka")
        self._broker.start()
        _kafka(self.folder).write_text(self._broker.bootstrap_servers)

    def end(self) -> None:
        """End both, and remove the folder."""
        for one in self._preparing:
            one.kill()
            one.wait(END_SECONDS_MAX)
        if self._forking is not None:
            self._forking.communicate(timeout=END_SECONDS_MAX)
        if self._broker is not None:
            self._broker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def shared_kafka(folder: Path) -> str | None:
    """``host:port`` of the Kafka that is shared; None if there is none."""
    path = _kafka(folder)
    return path.read_text() if path.exists() else None


def shared_commands(folder: Path) -> Path | None:
    """The socket of the process that commands are forked from; None if there is none."""
    path = _commands(folder)
    return path if path.exists() else None


def _kafka(folder: Path) -> Path:
    return folder / "kafka.txt"


def _commands(folder: Path) -> Path:
    return folder / "commands"
