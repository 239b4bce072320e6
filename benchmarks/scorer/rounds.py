"""Engines in turn, so that whatever else the machine does meets all of them; medians of rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.scorer.load import Client, Load, Round, Target

Figures = dict[str, Any]


@dataclass(frozen=True)
class Reach:
    """What is wanted of a figure; ``limit`` is the least or the most, as ``best`` says."""

    name: str
    found: float
    best: str
    limit: float

    @property
    def is_met(self) -> bool:
        """Whether the figure is good enough."""
        return self.found >= self.limit if self.best == "high" else self.found <= self.limit

    def described(self) -> Figures:
        """For the JSON."""
        word = "at_least" if self.best == "high" else "at_most"
        return {"name": self.name, "found": self.found, word: self.limit, "met": self.is_met}


@dataclass
class Part:
    """What one part of the benchmark found: lines of the table, reaches, and the largest error."""

    lines: list[Figures] = field(default_factory=list)
    reaches: list[Reach] = field(default_factory=list)
    max_abs_diff: float = 0.0
    ratios: dict[str, float] = field(default_factory=dict)
    more: Figures = field(default_factory=dict)

    def add(
        self, engine: str, load: Load, rounds: Sequence[Round], rows: int = 1, note: str = ""
    ) -> Figures:
        """A line of medians, which is also returned."""
        each = [_figures(one, rows) for one in rounds]
        line = {name: statistics.median(one[name] for one in each) for name in each[0]}
        self.max_abs_diff = max(self.max_abs_diff, *(one.max_abs_diff for one in rounds))
        self.lines.append(
            {
                "engine": engine,
                "in_flight": load.in_flight if load.per_second is None else None,
                "rows": rows,
                "note": note,
                **line,
                "rounds": each,
            }
        )
        return self.lines[-1]

    def reach(self, name: str, found: float, best: str, limit: float) -> None:
        """What is wanted of a figure."""
        self.reaches.append(Reach(name, found, best, limit))


def in_turns(
    client: Client,
    targets: Mapping[str, Target],
    loads: Sequence[Load],
) -> dict[str, list[Round]]:
    """A round of each target with each load; every other turn goes backwards."""
    found: dict[str, list[Round]] = {name: [] for name in targets}
    names = list(targets)
    for load in loads:
        for name in names:
            found[name].append(client.measure(targets[name], load))
        names.reverse()
    return found


def ratio(part: Part, first: Figures, second: Figures, figure: str) -> float:
    """Median over rounds of first / second, both of the same round; noted in the JSON."""
    found: float = statistics.median(
        one[figure] / other[figure]
        for one, other in zip(first["rounds"], second["rounds"], strict=True)
    )
    part.ratios[f"{figure}: {_name(first)} / {_name(second)}"] = found
    return found


def _name(line: Figures) -> str:
    who = ", ".join(text for text in (line["engine"], line["note"]) if text)
    return f"{who} at {line['in_flight']}"


def _figures(one: Round, rows: int) -> Figures:
    p50, p90, p99 = np.percentile(one.latency_ms, [50, 90, 99]).tolist()
    figures = {
        "requests_per_second": one.answers / one.seconds,
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "max_ms": float(one.latency_ms.max()),
        "server_cpu_us": one.server_cpu_seconds / one.answers * 1e6,
        "server_cores": one.server_cpu_seconds / one.seconds,
        "client_cpu_us": one.client_cpu_seconds / one.answers * 1e6,
        "client_cores": one.client_cpu_seconds / one.seconds,
        "rows_per_server_cpu_second": one.answers * rows / max(one.server_cpu_seconds, 0.01),
    }
    if len(one.late_ms):
        figures["client_late_p99_ms"] = float(np.percentile(one.late_ms, 99))
    return figures
