"""What a benchmark is to reach: told beside its figures, and exit 1 where it is missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reach:
    """One figure and its bound.

    Attributes:
        name: what was measured, with its unit.
        found: the figure.
        least: it is to be this or more; None if there is no such bound.
        most: it is to be this or less; None if there is no such bound.
    """

    name: str
    found: float
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the figure is within its bounds; one that is no number is not."""
        low = float("-inf") if self.least is None else self.least
        high = float("inf") if self.most is None else self.most
        return low <= self.found <= high

    def described(self) -> dict[str, Any]:
        """For the file of figures."""
        bounds = {"least": self.least, "most": self.most}
        wanted = {name: bound for name, bound in bounds.items() if bound is not None}
        return {"name": self.name, "found": self.found, **wanted, "is_met": self.is_met}

    def __str__(self) -> str:
        """A line for people."""
        wanted = [f">= {self.least:,g}"] if self.least is not None else []
        wanted += [f"<= {self.most:,g}"] if self.most is not None else []
        word = "met" if self.is_met else "MISSED"
        return f"{word:6} {self.name}: {self.found:,.4g} (wanted {' and '.join(wanted)})"


def hold(reaches: Sequence[Reach]) -> None:
    """Print all, and end the benchmark with exit code 1 if one is missed.

    To be called when the figures are written: one that misses its bound is a figure, too.
    """
    for reach in reaches:
        print(reach)
    missed = sum(not reach.is_met for reach in reaches)
    if missed:
        raise SystemExit(f"{missed} of {len(reaches)} bounds are missed")
