"""Versions that leave the model repository: taken back by their maker, or superseded."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from contracts.durable_files import exclusive
from contracts.manifest import VERSION, Manifest, ManifestError, learned_number, version_order
from contracts.model_channels import (
    AuditEntry,
    Channel,
    Channels,
    champion_line,
    previous_champion,
)
from contracts.model_decisions import ModelDecisions
from contracts.model_errors import CorruptChannelsError, CorruptVersionError

# A look for versions to remove holds up nobody for long: the next one goes on.
_REMOVED_MAX = 100
# What is being made or removed. There is one at most: every writer holds the lock.
_TEMPORARY = ".tmp"


class ModelRemoval(ModelDecisions):
    """The versions of all models below one root folder, as far as some of them have to go."""

    def versions(self, model: str) -> list[str]:
        """All versions of a model, oldest number first.

        Raises:
            ModelNotFoundError: no such model.
        """
        folder = self._folder(model)
        names = [e.name for e in folder.iterdir() if VERSION.fullmatch(e.name) and e.is_dir()]
        return sorted(names, key=version_order)

    def withdraw_after(self, model: str, version: int, reason: str, actor: str, at_us: int) -> None:
        """Take back the versions above ``version`` that ``actor`` made; others stay.

        For an actor that was set back to an earlier state and will make these versions again,
        perhaps otherwise. A champion among them gives way to the last one before it that stays,
        or to the newest version that stays.

        Raises:
            CorruptVersionError: a manifest cannot be read.
        """
        if not (self.root / model).is_dir():
            return
        with exclusive(self._folder(model) / ".lock"):
            later = [v for v in self.versions(model) if (learned_number(v) or 0) > version]
            gone = [v for v in later if self._maker(model, v) == actor]
            kept = [v for v in self.versions(model) if v not in gone]
            line = [v for v in champion_line(self.audit(model)) if v in kept]
            stays: dict[Channel, str | None] = {"champion": next(reversed(line or kept), None)}
            # One by one: an entry of the audit file tells of one channel.
            for channel in get_args(Channel):
                old = self._old(model)
                if old.version(channel) in gone:
                    new = old.pointing(channel, stays.get(channel))
                    self._change(model, new, "set", reason, actor, at_us)
            self._remove(model, gone)

    def retain(self, model: str, newest: int, until: int, follower: str) -> list[str]:
        """Remove versions that are superseded, a hundred at the most, and tell which.

        Nothing goes while the channels cannot be read.

        Args:
            model: whose.
            newest: how many of the dataflow's versions up to ``until`` are kept.
            until: number of a version; later ones do not count, and stay.
            follower: see ``superseded``.

        Raises:
            ModelNotFoundError: no such model.
        """
        with exclusive(self._folder(model) / ".lock"):
            versions = [v for v in self.versions(model) if (learned_number(v) or 0) <= until]
            if len(versions) <= newest:
                # The audit file may be a long one.
                return []
            try:
                channels = self.channels(model)
            except CorruptChannelsError:
                return []
            found = superseded(versions, channels, self.audit(model), newest, follower)
            self._remove(model, found[:_REMOVED_MAX])
            return found[:_REMOVED_MAX]

    def _remove(self, model: str, versions: list[str]) -> None:
        """The caller holds the lock, and no channel names one of them."""
        for each in versions:
            # A death meanwhile leaves all of a version or nothing that is taken for one.
            doomed = free_place(self._folder(model))
            (self._folder(model) / each).rename(doomed)
            shutil.rmtree(doomed)

    def _maker(self, model: str, version: str) -> str:
        file = self._folder(model) / version / "manifest.json"
        try:
            return Manifest.from_json(file.read_bytes()).created_by
        except (ManifestError, OSError) as error:
            raise CorruptVersionError(f"{file}: {error}") from error


def superseded(
    versions: Sequence[str],
    channels: Channels,
    audit: Sequence[AuditEntry],
    newest: int,
    follower: str,
) -> list[str]:
    """Versions of the dataflow that nothing will ever name again, oldest first.

    Kept are the newest ones, those in channels, the champion that a rollback goes back to, and
    whatever the audit names in an entry that is not the follower's: what people and rollouts have
    decided can be looked at for ever. Versions of batch training stay.

    Args:
        versions: all, oldest first.
        channels: as they are.
        audit: all changes of channels, oldest first.
        newest: how many of the dataflow's are kept in any case.
        follower: who makes each new version champion without deciding anything.
    """
    kept = {channels.version(channel) for channel in get_args(Channel)}
    kept.add(previous_champion(audit, channels.champion))
    for entry in audit:
        if entry.actor != follower:
            kept |= {entry.version, entry.previous}
    learned = [version for version in versions if learned_number(version) is not None]
    return [version for version in learned[: max(len(learned) - newest, 0)] if version not in kept]


def free_place(folder: Path) -> Path:
    """Where something may be made or removed; what somebody left there who died is gone."""
    place = folder / _TEMPORARY
    if place.exists():
        shutil.rmtree(place)
    return place
