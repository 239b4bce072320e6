"""One thing that differs between two definitions of a name, and how durations are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["new", "changed", "removed", "unchanged"]

_UNITS_US: Final = (
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("µs", 1),
)


@dataclass(frozen=True)
class Detail:
    """What differs, in words.

    Attributes:
        text: such as ``ttl: none -> 1 d``.
        rebuilds: whether state that was made before does not fit any more.
    """

    text: str
    rebuilds: bool = True


@dataclass(frozen=True)
class Change:
    """What became of one name.

    Attributes:
        details: of what is changed; none otherwise.
    """

    name: str
    kind: Kind
    details: tuple[Detail, ...] = ()

    @property
    def rebuilds(self) -> bool:
        """Whether state that was made before does not fit any more."""
        return self.kind in ("new", "removed") or any(one.rebuilds for one in self.details)


def moved(what: str, before: object, after: object) -> list[Detail]:
    """A detail if two values are not the same; texts that are empty are ``none``."""
    if before == after:
        return []
    return [Detail(f"{what}: {_shown(before)} -> {_shown(after)}")]


def moved_us(what: str, before_us: int, after_us: int, nothing: str) -> list[Detail]:
    """A detail if two durations are not the same; ``nothing`` is what 0 means."""
    if before_us == after_us:
        return []
    return [Detail(f"{what}: {shown_us(before_us, nothing)} -> {shown_us(after_us, nothing)}")]


def moved_members(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[Detail]:
    """Details of named members, each given with how it is described in words.

    Members that only stand in another order are one detail.
    """
    found = [
        Detail(f"new {what} {name}" + (f" ({words})" if words else ""))
        for name, words in after.items()
        if name not in before
    ]
    for name, then in before.items():
        if name not in after:
            found.append(Detail(f"{what} {name} is gone"))
        elif after[name] != then:
            found.append(Detail(f"{what} {name}: {then} -> {after[name]}"))
    order = [name for name in before if name in after]
    if order != [name for name in after if name in before]:
        found.append(Detail(f"{what}s in another order: {', '.join(after)}"))
    return found


def shown_us(duration_us: int, nothing: str = "0") -> str:
    """A duration (microseconds) in its largest units: ``1 h 30 min``; ``nothing`` for 0."""
    parts, rest = [], duration_us
    for unit, size in _UNITS_US:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count:,} {unit}")
    return " ".join(parts) or nothing


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value not in ("", None) else "none"
