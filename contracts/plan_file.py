"""What ``headwater apply`` leaves behind: the compiled plan as JSON, for readers without Feast.

Commands such as ``features`` and ``produce`` need names, types and join keys. Importing Feast and
``definitions.py`` for them takes seconds; this file takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from contracts.durable_files import read_regular, replace_file
from contracts.plan import Plan

FORMAT: Final = 1
_PLACE = ("data", "headwater.json")


class PlanFileError(Exception):
    """There is no plan file, or it cannot be read; the message says what to do."""


@dataclass(frozen=True)
class Applied:
    """What was applied last.

    Attributes:
        format: number of the file's layout.
        plan: all that the engine runs.
        services: feature service -> its (view, feature) pairs, in order. A view that is not in the
            plan is one that Feast has but the engine does not run.
    """

    format: Literal[1]
    plan: Plan
    services: dict[str, tuple[tuple[str, str], ...]]


def plan_path(repo: Path) -> Path:
    """The plan file of the Feast repository in folder ``repo``."""
    return repo.resolve().joinpath(*_PLACE)


def write_plan(path: Path, plan: Plan, services: Mapping[str, Sequence[tuple[str, str]]]) -> bool:
    """Write the file in one step; False if it held the very same before, and was left alone.

    Raises:
        PlanFileError: the folder or the file cannot be written.
    """
    pairs = {name: tuple(services[name]) for name in sorted(services)}
    data = msgspec.json.format(msgspec.json.encode(Applied(FORMAT, plan, pairs)), indent=2) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_bytes() == data:
            return False
        replace_file(path, data)
    except OSError as error:
        raise PlanFileError(f"cannot write {path}: {error.strerror}") from error
    return True


def read_plan(path: Path) -> Applied:
    """What ``write_plan`` wrote.

    Raises:
        PlanFileError: the file is missing, broken or of another layout.
    """
    try:
        return msgspec.json.decode(read_regular(path), type=Applied)
    except FileNotFoundError:
        raise PlanFileError(f"{path} does not exist; run `headwater apply` first") from None
    except OSError as error:
        raise PlanFileError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlanFileError(
            f"{path} cannot be read ({error}); run `headwater apply` to write it anew"
        ) from error
