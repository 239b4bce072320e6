"""Removes rows that wait in the evaluator's state for their label."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dataflows.served.rows import text_code
from dataflows.served.state import (
    EvaluatorState,
    is_evaluated,
    read_state,
    sole_evaluator,
    write_state,
)


def is_running(folder: Path) -> bool:
    """Whether an evaluator runs, whose state nobody else may write."""
    return folder.exists() and is_evaluated(folder)


def count_served(folder: Path, keys: Mapping[str, set[str]]) -> dict[str, int]:
    """Model -> rows and labels of these spine keys; raise EvaluatorError."""
    state = read_state(folder) if folder.exists() else None
    return {} if state is None else _without(state, keys)


def remove_served(folder: Path, keys: Mapping[str, set[str]]) -> dict[str, int]:
    """Remove them; model -> how many there were.

    Raises:
        EvaluatorError: an evaluator runs, or its state cannot be read.
    """
    if not folder.exists():
        return {}
    with sole_evaluator(folder):
        state = read_state(folder)
        if state is None:
            return {}
        found = _without(state, keys)
        if found:
            write_state(folder, state)
    return found


def _without(state: EvaluatorState, keys: Mapping[str, set[str]]) -> dict[str, int]:
    counts = {}
    for model, names in keys.items():
        data = state.models.get(model)
        if data is None or not names:
            continue
        codes = np.array([text_code(name) for name in names], np.int64)
        count = _without_codes(data["join"], codes)
        if count:
            counts[model] = count
    return counts


def _without_codes(join: dict[str, Any], codes: Any) -> int:
    stays = ~np.isin(join["rows"]["key"], codes)
    join["probabilities"] = [
        one for one, kept in zip(join["probabilities"], stays.tolist(), strict=True) if kept
    ]
    labels_stay = ~np.isin(join["labels"]["key"], codes)
    join["rows"], join["labels"] = join["rows"][stays], join["labels"][labels_stay]
    return int((~stays).sum() + (~labels_stay).sum())
