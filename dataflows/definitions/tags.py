"""Tags with which definitions say what Feast has no parameter for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dataflows.definitions.errors import DefinitionError

PREFIX: Final = "headwater."
KEY: Final = "headwater.key"
FRAMING: Final = "headwater.framing"
OFFLINE: Final = "headwater.offline"
WINDOWS: Final = "headwater.windows"
EXACT_TILES: Final = "headwater.exact_tiles"
DISTINCT_BITS: Final = "headwater.distinct_bits"
COLUMN_TYPE: Final = "headwater.column_type"

OF_SOURCES: Final = (KEY, FRAMING)
OF_VIEWS: Final = (OFFLINE, WINDOWS, EXACT_TILES, DISTINCT_BITS)
OF_FIELDS: Final = (COLUMN_TYPE,)
# Those of services, entities and batch sources mean nothing to us.
OF_OTHERS: Final = ()

Tags = Mapping[str, str]


def check_tags(tags: Tags | None, known: Sequence[str], where: str) -> None:
    """Raise DefinitionError if one begins as ours do, but is not known here, or is no text."""
    for name, value in (tags or {}).items():
        if name.startswith(PREFIX) and name not in known:
            hint = f"known here are {', '.join(known)}" if known else "none of ours belongs here"
            raise DefinitionError(f"{where}: tag {name!r} is unknown; {hint}")
        # Feast itself looks at the first tag only.
        if not isinstance(value, str):
            raise DefinitionError(
                f"{where}: tag {name!r} is {value!r}; tags are text, write {str(value).lower()!r}"
            )


def chosen(tags: Tags | None, name: str, choices: Sequence[str], where: str) -> str:
    """The value of a tag, the first of its choices without it; raise DefinitionError."""
    value = (tags or {}).get(name, choices[0])
    if value not in choices:
        raise DefinitionError(
            f"{where}: tag {name} is {value!r}; use {' or '.join(repr(one) for one in choices)}"
        )
    return value


def whole_number(
    tags: Tags | None, name: str, default: int, bounds: tuple[int, int], where: str
) -> int:
    """The value of a tag that is a number, both bounds included; raise DefinitionError."""
    text = (tags or {}).get(name, str(default))
    low, high = bounds
    # More digits than this are out of all bounds, and int() has a limit of its own.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise DefinitionError(
            f"{where}: tag {name} is {text!r}; use a whole number from {low} to {high}"
        )
    return int(text)
