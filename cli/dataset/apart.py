"""Makes the rows of a data set in a process of its own.

Definitions are Python modules: those of another commit belong into a process that has loaded no
others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cli.failures import CommandError

if TYPE_CHECKING:
    from dataflows.datasets.order import Builder, Made, Order

COMMAND = "rows"
_ORDER = "order.json"
_MADE = "made.json"
_STDERR = "stderr.txt"
_STDIN = 0
_SAID = "headwater: "
_STOP_SECONDS_MAX = 30.0
_SAID_BYTES_MAX = 64 * 1024


def builder(lock: int) -> Builder:
    """Makes rows in another process, and tells of its progress.

    Args:
        lock: a descriptor that the process inherits: as long as it lives its folder is in use,
            even if this process is killed.
    """

    def make(order: Order) -> Made:
        from cli.run_progress import watch
        from dataflows.datasets.order import Made, state_folder

        work = Path(order.work)
        (work / _ORDER).write_bytes(msgspec.json.encode(order))
        with watch(state_folder(work)):
            _run(work, lock)
        return msgspec.json.decode((work / _MADE).read_bytes(), type=Made)

    return make


def make_ordered(order_file: Path) -> None:
    """Do what a parent has ordered: the part of the child."""
    # Before all else: the imports below take seconds.
    _end_with_parent()
    from dataflows.datasets.building import build_rows
    from dataflows.datasets.order import Order
    from dataflows.flow.hush import speak_apart

    speak_apart()
    made = build_rows(msgspec.json.decode(order_file.read_bytes(), type=Order))
    order_file.with_name(_MADE).write_bytes(msgspec.json.encode(made))


def _run(work: Path, lock: int) -> None:
    """Run the child to its end; raise CommandError with what it says if it fails."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    # -P: the folder that people stand in may have modules by the names of ours.
    command = [sys.executable, "-P", "-m", "cli.main", "dataset", COMMAND, str(work / _ORDER)]
    with (work / _STDERR).open("wb") as errors:
        process = subprocess.Popen(
            command,
            # Stays open as long as we live.
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(lock,),
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            code = process.wait()
        except BaseException:
            _stop(process)
            raise
        finally:
            assert process.stdin
            process.stdin.close()
    if code != 0:
        raise CommandError(_reason(work / _STDERR, code))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the child, whose folder is about to be removed."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reason(errors: Path, code: int) -> str:
    """The line that the child has ended with."""
    data = errors.read_bytes()[-_SAID_BYTES_MAX:]
    lines = [line for line in data.decode(errors="replace").splitlines() if line.startswith(_SAID)]
    if lines:
        return lines[-1].removeprefix(_SAID)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"the process that builds the data set {how}; start it again"


def _end_with_parent() -> None:
    """End this process when the one that has started it is gone, however that ended."""

    def wait() -> None:
        # Not through Python's own buffer, which may not be locked when the interpreter ends.
        os.read(_STDIN, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
