"""Figures for people: an aligned table on stderr, so that stdout stays free."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO


def show(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    to: TextIO | None = None,
) -> None:
    """Print a table; the first column is text, the others are numbers and go to the right.

    It goes to stderr unless ``to`` says otherwise.
    """
    to = sys.stderr if to is None else to
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    print(f"\n{title}", file=to)
    for line in lines:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip(), file=to)


def load_line(load: Sequence[float], cores: int | None) -> str:
    """How busy the machine was before the measurement, in words."""
    return f"load average before: {load[0]:.2f} {load[1]:.2f} {load[2]:.2f} on {cores} cores"
