"""Channels of a model, the record of their changes, and what a rollback goes back to."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from contracts.manifest import VERSION

Channel = Literal["champion", "challenger", "shadow"]


@dataclass(frozen=True)
class Channels:
    """Which versions serve.

    Attributes:
        champion: answers requests that name no version; None before the first.
        challenger: gets a share of the requests, if any.
        shadow: scores beside the champion without answering, if any.
        weights: channel -> share of the requests, 0 to 1; empty sends all to the champion. Only
            the challenger's counts: the rest is the champion's.
        salt: changes who is assigned to the challenger; see ``assignment``.
    """

    champion: str | None = None
    challenger: str | None = None
    shadow: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    salt: str = ""

    @property
    def challenger_share(self) -> float:
        """Share of the requests that the challenger answers; 0 without one."""
        return float(self.weights.get("challenger", 0.0)) if self.challenger else 0.0

    def version(self, channel: Channel) -> str | None:
        """The version in that channel."""
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "shadow": self.shadow,
        }[channel]

    def pointing(self, channel: Channel, version: str | None) -> Channels:
        """With another version in a channel; a new challenger begins without a share."""
        if channel == "champion":
            return replace(self, champion=version)
        if channel == "shadow":
            return replace(self, shadow=version)
        if version == self.challenger:
            return self
        return replace(self, challenger=version, weights={})

    def promoting(self, version: str) -> Channels:
        """With another champion, who is challenger no longer if he was."""
        promoted = replace(self, champion=version)
        return promoted.pointing("challenger", None) if self.challenger == version else promoted

    def sharing(self, share: float, salt: str | None = None) -> Channels:
        """With another share for the challenger; None keeps the salt.

        Raises:
            ValueError: there is no challenger, or the share is not between 0 and 1.
        """
        if self.challenger is None and share:
            raise ValueError("there is no challenger to give a share to; set one first")
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share!r}: use a number from 0 to 1")
        weights = {"challenger": float(share)} if share else {}
        return replace(self, weights=weights, salt=self.salt if salt is None else salt)

    @classmethod
    def from_json(cls, data: Any) -> Channels:
        """Rebuild from the object in ``channels.json``.

        Raises:
            ValueError, TypeError: it is not such an object.
        """
        channels = cls(**data)
        for name in get_args(Channel):
            version = channels.version(name)
            if version is not None and not VERSION.fullmatch(version):
                raise ValueError(f"{name} is {version!r}, not a version")
        if not isinstance(channels.weights, Mapping):
            raise ValueError(f"weights are {channels.weights!r}, not an object")
        for name, weight in channels.weights.items():
            if name not in get_args(Channel) or not math.isfinite(weight) or not 0 <= weight <= 1:
                raise ValueError(f"weight {name!r} is {weight!r}: use a channel and 0 to 1")
        if not isinstance(channels.salt, str):
            raise ValueError(f"salt is {channels.salt!r}, not a text")
        return channels


@dataclass(frozen=True)
class AuditEntry:
    """One change of a channel.

    Attributes:
        at_us: when, microseconds since 1970 UTC, as the caller's clock said.
        action: ``set``, ``promote``, ``rollback`` or ``weigh``; ``stop`` where a rollout was given
            up and no channel changed.
        channel: the channel that changed.
        version: what it points at from now on; None if it was emptied.
        previous: what it pointed at before.
        reason: why, for people.
        actor: who, a person or a process.
        share: of the requests that the challenger gets from now on; None if it did not change.
        figures: what the decision was made on: name -> value.
    """

    at_us: int
    action: str
    channel: str
    version: str | None
    previous: str | None
    reason: str
    actor: str
    share: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


def parse_audit(data: bytes) -> list[AuditEntry]:
    """Entries of an audit file, oldest first; what is none (torn by a crash) is left out."""
    entries = []
    for line in data.splitlines():
        try:
            entry = AuditEntry(**json.loads(line))
            if any(v and not VERSION.fullmatch(v) for v in (entry.version, entry.previous)):
                continue
            entries.append(entry)
        except (ValueError, TypeError, RecursionError):
            continue
    return entries


@dataclass(frozen=True)
class Decision:
    """One change of the channels, with all that it says in the audit file.

    Attributes:
        action: as ``AuditEntry.action``.
        expected: what the channels must be for it to be made; a shadow does not count.
        new: what they are from then on; the shadow stays as it is.
        reason: why, for people.
        actor: who.
        at_us: when; it tells a decision from the same one at another time.
        figures: what it is made on.
    """

    action: str
    expected: Channels
    new: Channels
    reason: str
    actor: str
    at_us: int
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def entry(self) -> AuditEntry:
        """The line of the audit file."""
        return entry_of(
            self.action, self.expected, self.new, self.reason, self.actor, self.at_us, self.figures
        )


def is_same_rollout(one: Channels, other: Channels) -> bool:
    """Whether all but the shadow is the same: who answers, and whom."""
    return replace(one, shadow=None) == replace(other, shadow=None)


def entry_of(
    action: str,
    old: Channels,
    new: Channels,
    reason: str,
    actor: str,
    at_us: int,
    figures: Mapping[str, float] | None = None,
) -> AuditEntry:
    """The entry of a change: of the first channel that points elsewhere, else of the shares."""
    names: tuple[Channel, ...] = get_args(Channel)
    changed = [name for name in names if old.version(name) != new.version(name)]
    channel: Channel = changed[0] if changed else "challenger"
    before, after = old.challenger_share, new.challenger_share
    return AuditEntry(
        at_us,
        action,
        channel,
        new.version(channel),
        old.version(channel),
        reason,
        actor,
        None if before == after else after,
        dict(figures or {}),
    )


def previous_champion(
    entries: Sequence[AuditEntry],
    present: str | None,
    is_there: Callable[[str], bool] = lambda version: True,
) -> str | None:
    """The champion before the present one that is still there, None if there is none.

    A rollback takes back all that came after the version it went to, so a version that was rolled
    back is never returned for having been champion. The line before a change is written first:
    entries after ``present`` announce changes that a crash prevented, and do not count.
    """
    line = champion_line(entries)
    while line and line[-1] != present:
        line.pop()
    before = (version for version in reversed(line) if version is not None and version != present)
    return next(filter(is_there, before), None)


def champion_line(entries: Sequence[AuditEntry]) -> list[str | None]:
    """The champions one after the other, without those that rollbacks took back."""
    line: list[str | None] = []
    for entry in entries:
        if entry.channel != "champion":
            continue
        if entry.action == "rollback" and entry.version in line:
            while line[-1] != entry.version:
                line.pop()
        else:
            line.append(entry.version)
    return line
