"""The calibration plot of a model card: mean score against the share that came true, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SIZE = 320
_EDGE = 40
_RADIUS_MAX = 9.0
_RADIUS_MIN = 2.5


@dataclass(frozen=True)
class Bin:
    """Rows with scores alike.

    Attributes:
        score: their mean score, 0 to 1.
        share: how many of them came true, 0 to 1.
        outcomes: how many they are.
    """

    score: float
    share: float
    outcomes: int

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Bin:
        """A bin as evaluations write it."""
        outcomes = int(entry["outcomes"])
        return cls(float(entry["score"]), entry["positives"] / outcomes, outcomes)


def calibration_svg(bins: Sequence[Bin]) -> str:
    """A square plot with the diagonal; a dot's area is the number of rows."""
    most = max((one.outcomes for one in bins), default=1)
    dots = []
    for one in bins:
        radius = max(_RADIUS_MIN, _RADIUS_MAX * (one.outcomes / most) ** 0.5)
        dots.append(
            f'<circle cx="{_x(one.score):.1f}" cy="{_y(one.share):.1f}" r="{radius:.1f}">'
            f"<title>score {one.score:.3f}, true {one.share:.3f}, {one.outcomes} rows</title>"
            "</circle>"
        )
    line = " ".join(f"{_x(one.score):.1f},{_y(one.share):.1f}" for one in bins)
    ticks = "".join(
        f'<text x="{_x(at):.0f}" y="{_y(0) + 16:.0f}" text-anchor="middle">{at:g}</text>'
        f'<text x="{_x(0) - 6:.0f}" y="{_y(at) + 4:.0f}" text-anchor="end">{at:g}</text>'
        for at in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    whole = _SIZE + 2 * _EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{whole}" '
        'font-family="sans-serif" font-size="11">'
        f'<rect width="{whole}" height="{whole}" fill="white"/>'
        f'<rect x="{_EDGE}" y="{_EDGE}" width="{_SIZE}" height="{_SIZE}" fill="none" '
        'stroke="#999"/>'
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#bbb" '
        'stroke-dasharray="4"/>'
        f'<polyline points="{line}" fill="none" stroke="#1f6fb2"/>'
        f'<g fill="#1f6fb2">{"".join(dots)}</g>{ticks}'
        f'<text x="{whole / 2:.0f}" y="{whole - 6}" text-anchor="middle">mean score</text>'
        f'<text x="12" y="{whole / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 12 {whole / 2:.0f})">share that came true</text></svg>\n'
    )


def _x(value: float) -> float:
    return _EDGE + value * _SIZE


def _y(value: float) -> float:
    return _EDGE + (1.0 - value) * _SIZE
