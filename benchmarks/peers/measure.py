"""What every engine of this comparison does the same way: arguments, meter, report.

An engine is a module that is run as a process of its own:

    python -m benchmarks.peers.NAME INPUT.ndjson OUTPUT.json [--keep FOLDER] [own options]

It reads all of INPUT, computes the features of ``workload``, and writes a report to OUTPUT. With
``--keep`` it also writes what it computed to FOLDER as Parquet, one file for each kind of result
(``check.KINDS`` says which there are and which columns they have); without, it lets its results go
as soon as they are counted. Only the work is metered: imports, compilation and other preparations
are start-up, which is reported apart, and writing to FOLDER comes after the work.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType


def engine_arguments(description: str | None) -> argparse.ArgumentParser:
    """The arguments that all engines have: ``input``, ``output``, ``keep`` (None or a folder)."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--keep", type=Path, help="write the results into this folder")
    return parser


def count_lines(path: Path) -> int:
    """For engines that do not say how many events they read."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


@dataclass
class Meter:
    """Measures the work of this process, its threads, and its children that were waited for.

    Attributes:
        others: CPU-seconds so far of processes that are not (a server that goes on running).
        start_cpu_seconds: what was used up before the work began.
        cpu_seconds: user and system time of the work.
        seconds: of the work, on the clock.
        peak_mb: most memory that this process held, or the largest of its children.
    """

    others: Callable[[], float] = lambda: 0.0
    start_cpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    peak_mb: float = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """What happens in here is the work."""
        self.start_cpu_seconds = self._cpu()
        began = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - began
        self.cpu_seconds = self._cpu() - self.start_cpu_seconds
        self.peak_mb = peak_mb()

    def _cpu(self) -> float:
        used = (resource.getrusage(who) for who in _WHOM)
        return sum(one.ru_utime + one.ru_stime for one in used) + self.others()


_WHOM = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def process_cpu_seconds(pid: int) -> float:
    """User and system time of a living process, its threads, and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(int(fields[place]) for place in range(11, 15)) / os.sysconf("SC_CLK_TCK")


def process_peak_mb(pid: int | str) -> float:
    """Most memory that a living process held since its program began."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1024


def peak_mb() -> float:
    """Most memory that this process held, or the largest of its children that have ended."""
    # ``ru_maxrss`` of a process begins with what its parent held before the program was loaded.
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return max(process_peak_mb("self"), children)


def report(
    output: Path,
    meter: Meter,
    events: int,
    rows_out: int,
    emits: str,
    packages: Iterable[str],
    versions: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write what was measured.

    Args:
        output: the file.
        meter: after the work.
        events: how many were read.
        rows_out: how many rows of results came out (a row has nine values, or three of a window).
        emits: what comes out and when, in a few words, for the table.
        packages: distributions whose versions matter.
        versions: of what is no distribution of Python.
    """
    figures = {
        "events": events,
        "rows_out": rows_out,
        "emits": emits,
        "start_cpu_seconds": meter.start_cpu_seconds,
        "cpu_seconds": meter.cpu_seconds,
        "seconds": meter.seconds,
        "peak_mb": meter.peak_mb,
        "packages": {**{package: version(package) for package in packages}, **versions},
    }
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
