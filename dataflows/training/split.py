"""Which rows a model learns from, by which it is chosen, and on which it is measured.

Pure, and nothing but event time. At a boundary only what was known by then may be learned, so a row
whose label came later is left out. That alone would keep the rows whose label comes fast, so the
rows of the last while before a boundary are left out too, whenever their label came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflows.training.errors import TrainingError
from dataflows.training.examples import Examples, Times

# Of the labels known at a boundary, all but this share came within the gap.
SLOW_SHARE = 0.01
ROWS_MIN = 20


@dataclass(frozen=True)
class Shares:
    """How to split.

    Attributes:
        test: share of the rows, the latest ones, on which the model is measured.
        validation: share of the rows learned from, the latest ones, by which parameters are chosen.
        test_from_us: where the test begins, in the place of a share.
    """

    test: float = 0.2
    validation: float = 0.2
    test_from_us: int | None = None

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to learn from (TrainingError)."""
        for share in (self.test, self.validation):
            if not 0 < share <= 0.9:
                raise TrainingError(f"a share of the rows is above 0 and at most 0.9, not {share}")


@dataclass(frozen=True)
class Split:
    """Places of rows, ascending.

    Attributes:
        train: rows whose label was known at ``validation_from_us``.
        validation: later predictions whose label was known at ``test_from_us``.
        fit: rows whose label was known at ``test_from_us``: what the published model learns.
        test: predictions from ``test_from_us`` on, but for those too young to know of.
        validation_from_us: time of prediction, microseconds since 1970 UTC.
        test_from_us: the same.
        gap_us: what was left out before ``test_from_us``.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    fit: NDArray[np.int64]
    test: NDArray[np.int64]
    validation_from_us: int
    test_from_us: int
    gap_us: int


def split(examples: Examples, shares: Shares) -> Split:
    """Split by time.

    Raises:
        TrainingError: a part would have fewer than 20 rows.
    """
    times_us, known_us = examples.times_us, examples.label_times_us
    test_from_us = shares.test_from_us
    if test_from_us is None:
        test_from_us = _moment(times_us, shares.test)
    fit = _known(times_us, known_us, test_from_us)
    _check("learn from", int(fit.sum()))
    validation_from_us = _moment(times_us[fit], shares.validation)
    end_us = int(known_us.max()) + 1
    parts = {
        "train": _known(times_us, known_us, validation_from_us),
        "validation": fit & (times_us >= validation_from_us),
        "fit": fit,
        "test": _known(times_us, known_us, end_us) & (times_us >= test_from_us),
    }
    places = {name: np.flatnonzero(part) for name, part in parts.items()}
    for name, rows in places.items():
        _check(name, len(rows))
    gap_us = _gap_us(times_us, known_us, test_from_us)
    return Split(
        **places, validation_from_us=validation_from_us, test_from_us=test_from_us, gap_us=gap_us
    )


def _moment(times_us: Times, share: float) -> int:
    """From when on are so many of the rows, which are in order."""
    place = int(len(times_us) * (1 - share))
    return int(times_us[min(place, len(times_us) - 1)])


def _known(times_us: Times, known_us: Times, boundary_us: int) -> Any:
    """Mask of the rows that may be used at a boundary."""
    old_enough = times_us < boundary_us - _gap_us(times_us, known_us, boundary_us)
    return old_enough & (known_us < boundary_us)


def _gap_us(times_us: Times, known_us: Times, boundary_us: int) -> int:
    """How long labels take to come, as far as that is known at the boundary."""
    delays = (known_us - times_us)[known_us < boundary_us]
    return int(np.quantile(delays, 1 - SLOW_SHARE, method="higher")) if len(delays) else 0


def _check(name: str, rows: int) -> None:
    if rows < ROWS_MIN:
        raise TrainingError(
            f"only {rows} labelled examples are left to {name}, at least {ROWS_MIN} are needed; "
            "widen --from and --until, or move --test-from"
        )
