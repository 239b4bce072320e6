"""CPU time of a server with all its processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from benchmarks.peers.measure import process_cpu_seconds, process_peak_mb


def tree_cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes and their descendants, to 10 ms each."""
    return sum(process_cpu_seconds(pid) for pid in _tree(pids))


def tree_peak_mb(pids: Iterable[int]) -> float:
    """Most memory that each of them held, added up: shared pages count in each."""
    return sum(process_peak_mb(pid) for pid in _tree(pids))


def own_cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _tree(pids: Iterable[int]) -> Iterable[int]:
    for pid in pids:
        yield pid
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                children = (task / "children").read_text(encoding="ascii").split()
            except OSError:
                # The thread has just ended.
                continue
            yield from _tree(int(child) for child in children)
