"""Channels in the model repository: who changes them, and what the audit file says of it.

``<root>/<model>/channels.json`` is replaced in one step; ``<root>/<model>/audit.ndjson`` gets one
line for each change, written before the change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from contracts.durable_files import append_line, exclusive, read_regular, replace_file
from contracts.manifest import MODEL_NAME, VERSION
from contracts.model_channels import (
    AuditEntry,
    Channel,
    Channels,
    Decision,
    entry_of,
    is_same_rollout,
    parse_audit,
    previous_champion,
)
from contracts.model_errors import (
    CorruptChannelsError,
    ModelNotFoundError,
    NoPreviousChampionError,
    ShareError,
    VersionNotFoundError,
)

Figures = Mapping[str, float]


class ModelDecisions:
    """The channels of all models below one root folder."""

    root: Path

    def channels(self, model: str) -> Channels:
        """The model's channels; all None before the first ``set_channel``.

        Raises:
            ModelNotFoundError: no such model.
            CorruptChannelsError: ``channels.json`` cannot be read.
        """
        file = self._folder(model) / "channels.json"
        try:
            return Channels.from_json(json.loads(read_regular(file)))
        except FileNotFoundError:
            return Channels()
        except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise CorruptChannelsError(f"{file}: {error}; set the champion again") from error

    def set_channel(
        self,
        model: str,
        channel: Channel,
        version: str | None,
        reason: str,
        actor: str,
        at_us: int,
        figures: Figures | None = None,
    ) -> None:
        """Point a channel at a version (None empties it); no change leaves no audit line.

        A new challenger begins without a share.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there is no such version.
        """
        with self._locked(model):
            new = self._old(model).pointing(channel, version)
            self._change(model, new, "set", reason, actor, at_us, figures)

    def set_share(
        self,
        model: str,
        share: float,
        salt: str | None,
        reason: str,
        actor: str,
        at_us: int,
        figures: Figures | None = None,
    ) -> None:
        """Give the challenger a share of the requests, 0 to 1; ``salt`` None keeps who gets it.

        Raises:
            ModelNotFoundError: no such model.
            ShareError: there is no challenger, or it is no share.
        """
        with self._locked(model):
            new = _sharing(self._old(model), share, salt)
            self._change(model, new, "weigh", reason, actor, at_us, figures)

    def set_challenger(
        self,
        model: str,
        version: str,
        share: float,
        salt: str | None,
        reason: str,
        actor: str,
        at_us: int,
        figures: Figures | None = None,
    ) -> None:
        """Make a version the challenger, with its share, in one step; raises as the two."""
        with self._locked(model):
            new = _sharing(self._old(model).pointing("challenger", version), share, salt)
            self._change(model, new, "set", reason, actor, at_us, figures)

    def promote(
        self,
        model: str,
        version: str,
        reason: str,
        actor: str,
        at_us: int,
        figures: Figures | None = None,
    ) -> None:
        """Make a version the champion; raises as ``set_channel``.

        If it was the challenger there is none any more.
        """
        with self._locked(model):
            new = self._old(model).promoting(version)
            self._change(model, new, "promote", reason, actor, at_us, figures)

    def rollback(
        self,
        model: str,
        reason: str,
        actor: str,
        at_us: int,
        figures: Figures | None = None,
    ) -> str:
        """Make the champion before the present one champion again, and return its version.

        Rolling back again goes further back, never forth to the version just left. Versions that
        were removed are passed over. A challenger loses its share: all requests go to the champion.

        Raises:
            ModelNotFoundError: no such model.
            NoPreviousChampionError: there is none.
        """
        with self._locked(model):
            old = self.channels(model)
            folder = self._folder(model)
            version = previous_champion(
                self.audit(model), old.champion, lambda each: (folder / each).is_dir()
            )
            if version is None:
                raise NoPreviousChampionError(
                    f"model {model!r}: no champion before {old.champion}; use promote with a "
                    "version"
                )
            new = old.promoting(version).sharing(0.0)
            self._change(model, new, "rollback", reason, actor, at_us, figures)
            return version

    def decide(self, model: str, decision: Decision) -> bool:
        """Make a change if the channels are as expected; False if somebody changed them.

        A decision that was made already, or only announced when its maker died, is made once:
        whoever is not sure says it again.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there is no such version.
            CorruptChannelsError: ``channels.json`` cannot be read.
        """
        entry = decision.entry
        with self._locked(model):
            now, audit = self.channels(model), self.audit(model)
            new = replace(decision.new, shadow=now.shadow)
            is_announced = bool(audit) and audit[-1] == entry
            if is_announced and not is_same_rollout(now, decision.expected):
                return True
            if entry in audit[:-1]:
                # It was made, whatever others have done since.
                return True
            if not is_same_rollout(now, decision.expected):
                return False
            self._require(model, new)
            if not is_announced:
                self._tell(model, entry)
            self._write_channels(model, new)
            return True

    def remark(self, model: str, entry: AuditEntry) -> None:
        """Put an entry that changes no channel into the audit file, once."""
        with self._locked(model):
            if entry not in self.audit(model):
                self._tell(model, entry)

    def audit(self, model: str) -> list[AuditEntry]:
        """All changes of channels, oldest first; a line torn by a crash is left out.

        Raises:
            ModelNotFoundError: no such model.
        """
        file = self._folder(model) / "audit.ndjson"
        return parse_audit(file.read_bytes()) if file.exists() else []

    def _old(self, model: str) -> Channels:
        """The channels that a change begins with."""
        try:
            return self.channels(model)
        except CorruptChannelsError:
            # Setting a channel is the way out of a broken file.
            return Channels()

    def _change(
        self,
        model: str,
        new: Channels,
        action: str,
        reason: str,
        actor: str,
        at_us: int,
        figures: Figures | None = None,
    ) -> None:
        """The caller holds the lock. Writes the audit line first, then the channels."""
        self._require(model, new)
        old = self._old(model)
        if new == old:
            return
        self._tell(model, entry_of(action, old, new, reason, actor, at_us, figures))
        self._write_channels(model, new)

    def _require(self, model: str, new: Channels) -> None:
        """Raise VersionNotFoundError if a channel would come to point at nothing."""
        old = self._old(model)
        for channel in get_args(Channel):
            version = new.version(channel)
            if version is not None and version != old.version(channel):
                self._version_folder(model, version)

    def _tell(self, model: str, entry: AuditEntry) -> None:
        append_line(self._folder(model) / "audit.ndjson", json.dumps(asdict(entry)).encode())

    def _write_channels(self, model: str, new: Channels) -> None:
        text = json.dumps(asdict(new), sort_keys=True, indent=2) + "\n"
        replace_file(self._folder(model) / "channels.json", text.encode())

    @contextmanager
    def _locked(self, model: str) -> Iterator[None]:
        with exclusive(self._folder(model) / ".lock"):
            yield

    def _folder(self, model: str) -> Path:
        folder = self.root / model
        if not MODEL_NAME.fullmatch(model) or not folder.is_dir():
            raise ModelNotFoundError(
                f"no model {model!r} in {self.root}; `headwater models list` names them"
            )
        return folder

    def _version_folder(self, model: str, version: str) -> Path:
        folder = self._folder(model) / version
        if not VERSION.fullmatch(version) or not folder.is_dir():
            raise VersionNotFoundError(f"model {model!r} has no version {version!r}")
        return folder


def _sharing(channels: Channels, share: float, salt: str | None) -> Channels:
    try:
        return channels.sharing(share, salt)
    except ValueError as error:
        raise ShareError(str(error)) from error
