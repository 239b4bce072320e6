"""How good the versions of a model are, as files that people and processes read.

``<model repository>/<model>/evaluation/pipeline.json`` is the dataflow's, from its own predictions;
``served.json`` is of what was really served. Both are replaced in one step. The layout::

    {"format": 1, "model": …, "task": …, "outcomes": n, "until_us": …, "segments": [NAME, …],
     "versions": {"12": SLICE, …}, "earlier": SLICE, "recent": SLICE, "all": SLICE}
    SLICE = {"all": FIGURES, "segments": {NAME: {VALUE: FIGURES}}}

FIGURES is name -> number, null where a figure is not defined; that of a whole slice has further
entries (``calibration``, ``classes``) that are lists or objects. ``recent`` has ``from_us`` too: it
is about labels since then. ``earlier`` is about versions that have no figures of their own. Version
``"0"`` has what was predicted before the first version.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from contracts.durable_files import replace_file

FORMAT = 1
FOLDER = "evaluation"
MISSING_VALUE = "(missing)"
"""Stands for outcomes without a value of the segment."""
OTHER_VALUES = "(other)"
"""Stands for all values of a segment beyond those that are told apart."""

Side = Literal["pipeline", "served"]


class EvaluationFileError(ValueError):
    """The file cannot be read; the text names it and says what to do."""


def evaluation_file(root: Path, model: str, side: Side) -> Path:
    """Where an evaluation lies in the model repository at ``root``."""
    return root / model / FOLDER / f"{side}.json"


def write_evaluation(file: Path, model: str, report: Mapping[str, Any]) -> None:
    """Replace the file, making its folder; equal reports give equal bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.encode({"format": FORMAT, "model": model, **report})
    replace_file(file, data + b"\n")


def keep_served(old: Path, new: Path, model: str) -> None:
    """Copy what was found of the served predictions into a repository that takes another's place.

    Raises:
        OSError: it cannot be read or written.
    """
    source, target = (evaluation_file(root, model, "served") for root in (old, new))
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, source.read_bytes())


def read_evaluation(file: Path) -> dict[str, Any] | None:
    """What ``write_evaluation`` wrote; None if there is no file.

    Raises:
        EvaluationFileError: it is no such file.
    """
    try:
        data = msgspec.json.decode(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EvaluationFileError(
            f"{file}: {error}; remove it, it is written again with the next labels"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise EvaluationFileError(
            f"{file} is not an evaluation of format {FORMAT}; remove it, it is written again with "
            "the next labels"
        )
    return data
