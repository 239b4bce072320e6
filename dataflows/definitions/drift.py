"""A model's ``Drift`` as a plan; settings with which nothing could be found are refused."""

from __future__ import annotations

import math
from dataclasses import asdict

from contracts.model_spec import Drift
from contracts.plan import DriftPlan
from dataflows.definitions.errors import DefinitionError

# A block, a tenth of a window, counts in 16 bits.
_WINDOW_ROWS_MIN, _WINDOW_ROWS_MAX = 100, 500_000
_ROWS_MAX = 100_000_000
_SHARES = ("ks", "missing", "score")
_POSITIVE = ("psi", "error")


def compile_drift(drift: Drift | None, where: str) -> DriftPlan | None:
    """The executable form; raise DefinitionError that begins with ``where``."""
    if drift is None:
        return None
    here = f"{where}: drift"
    window_rows = _rows(drift.window_rows, _WINDOW_ROWS_MIN, f"{here} window_rows")
    if window_rows > _WINDOW_ROWS_MAX or window_rows % 10:
        raise DefinitionError(
            f"{here} window_rows must be a multiple of 10 up to {_WINDOW_ROWS_MAX:,}, not "
            f"{window_rows}"
        )
    _rows(drift.reference_rows, 2 * window_rows, f"{here} reference_rows (two windows at least)")
    _rows(drift.warmup_rows, 0, f"{here} warmup_rows")
    if drift.renew_after_rows is not None:
        _rows(drift.renew_after_rows, window_rows, f"{here} renew_after_rows (a window at least)")
    for name in (*_SHARES, *_POSITIVE):
        value = getattr(drift, name)
        if value is None:
            continue
        top = 1.0 if name in _SHARES else math.inf
        if not _is_number(value) or not 0.0 < value < top:
            rest = " and below 1" if name in _SHARES else ""
            raise DefinitionError(
                f"{here} {name} must be a number above 0{rest}, or None so that it is not watched, "
                f"not {value!r}"
            )
    if not _is_number(drift.false_alarm) or not 1e-9 <= drift.false_alarm <= 0.5:
        raise DefinitionError(
            f"{here} false_alarm must be a probability from 1e-9 to 0.5, not {drift.false_alarm!r}"
        )
    return DriftPlan(**asdict(drift))


def _rows(value: object, least: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _ROWS_MAX:
        raise DefinitionError(
            f"{what} must be a whole number from {least:,} to {_ROWS_MAX:,}, not {value!r}"
        )
    return value


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float))
