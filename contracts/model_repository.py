"""The model repository: immutable versions, and channels that say which one serves.

``<root>/<model>/<version>/{model.onnx,manifest.json}`` never change once they are there, with
``manifest.sig`` where versions are signed, and ``card.md`` for people;
``<root>/<model>/channels.json`` is replaced in one step; ``<root>/<model>/audit.ndjson`` gets one
line for each change of a channel, written before the change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from contracts.calibration_plot import calibration_svg
from contracts.durable_files import (
    exclusive,
    read_regular,
    replace_file,
    sync_folder,
    write_synced,
)
from contracts.evaluation_file import (
    EvaluationFileError,
    Side,
    evaluation_file,
    read_evaluation,
)
from contracts.manifest import (
    MODEL_NAME,
    Manifest,
    ManifestError,
    sha256_hex,
)
from contracts.model_card import calibration_of, render_card
from contracts.model_channels import Channel
from contracts.model_errors import (
    CorruptChannelsError,
    CorruptVersionError,
    ModelNotFoundError,
    ModelRepositoryError,
    NoPreviousChampionError,
    ShareError,
    VersionConflictError,
    VersionNotFoundError,
)
from contracts.model_removal import ModelRemoval, free_place
from contracts.settings import PREFIX, Settings
from contracts.signature import SignatureError, Signer, Verifier

__all__ = [
    "CorruptChannelsError",
    "CorruptVersionError",
    "ModelNotFoundError",
    "ModelRepository",
    "ModelRepositoryError",
    "NoPreviousChampionError",
    "ShareError",
    "VersionConflictError",
    "VersionNotFoundError",
]

# How many entries of an audit another repository has given, see ``_taken``.
_TAKEN = ".taken-over"
_SIGNATURE = "manifest.sig"
_PLOT = "calibration.svg"
_Key = TypeVar("_Key", Signer, Verifier)
_SIDES: tuple[Side, Side] = ("pipeline", "served")


class ModelRepository(ModelRemoval):
    """All models below one root folder. Safe for several processes of one machine at once."""

    def __init__(
        self, root: Path, signer: Signer | None = None, verifier: Verifier | None = None
    ) -> None:
        """Use ``root``; it need not exist before the first ``publish``.

        Args:
            root: the folder.
            signer: signs what is published; None leaves it unsigned.
            verifier: refuses what is not signed by one of its keys; None takes everything.
        """
        self.root = root
        self._signer = signer
        self._verifier = verifier

    @classmethod
    def of(cls, settings: Settings, root: Path) -> ModelRepository:
        """The repository at ``root`` with the keys that the settings name.

        Raises:
            SignatureError: a key cannot be read.
        """
        return cls(
            root,
            _key_of(Signer.from_file, "SIGNING_KEY_FILE", settings.signing_key_file),
            _key_of(Verifier.from_file, "VERIFY_KEYS_FILE", settings.verify_keys_file),
        )

    def models(self) -> list[str]:
        """Names of all models, sorted; empty if the root does not exist."""
        if not self.root.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.root.iterdir()
            if MODEL_NAME.fullmatch(entry.name) and entry.is_dir()
        )

    def publish(self, manifest: Manifest, onnx: bytes) -> bool:
        """Add a version; True if it is new, False if the very same version was already there.

        Raises:
            VersionConflictError: another version has this number.
            CorruptVersionError: this number is taken by a version that cannot be read.
            ManifestError: the manifest is malformed or does not fit ``onnx``.
        """
        text = manifest.to_json().encode()
        return self._add(manifest, text, onnx, self._signer.sign(text) if self._signer else None)

    def take_in(self, manifest: Manifest, onnx: bytes, signature: bytes | None) -> bool:
        """Add a version that was published elsewhere, with the signature that it has there.

        One without any is signed by us, if we sign; but where signatures are checked, its own must
        hold. Raises as ``publish``, and CorruptVersionError if it does not.
        """
        text = manifest.to_json().encode()
        try:
            if self._verifier is not None:
                self._verifier.check(text, signature)
        except SignatureError as error:
            raise CorruptVersionError(
                f"model {manifest.model!r} version {manifest.version}: {error}"
            ) from error
        if signature is None and self._signer is not None:
            signature = self._signer.sign(text)
        return self._add(manifest, text, onnx, signature)

    def _add(self, manifest: Manifest, text: bytes, onnx: bytes, signature: bytes | None) -> bool:
        if manifest.sha256 != sha256_hex(onnx):
            raise ManifestError("manifest field 'sha256' is not that of the model's bytes")
        if manifest.fingerprint != manifest.schema.fingerprint:
            raise ManifestError("manifest field 'fingerprint' is not that of its schema")
        folder = self.root / manifest.model
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / ".lock"):
            if (folder / manifest.version).exists():
                self._refuse_other(manifest)
                return False
            temporary = free_place(folder)
            temporary.mkdir()
            write_synced(temporary / "model.onnx", onnx)
            write_synced(temporary / "manifest.json", text)
            if signature is not None:
                write_synced(temporary / _SIGNATURE, signature)
            self._write_card(temporary, manifest)
            sync_folder(temporary)
            temporary.rename(folder / manifest.version)
            sync_folder(folder)
            if not (folder / "channels.json").exists():
                # Whoever came before has not told the disk of the model's folder for sure.
                sync_folder(self.root)
        return True

    def load(self, model: str, version: str) -> tuple[Manifest, bytes]:
        """A version's manifest and ONNX bytes, verified.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there is none.
            CorruptVersionError: a file is missing or broken, SHA-256 or fingerprint differ, or the
                signature does not hold.
        """
        folder = self._version_folder(model, version)
        manifest_file, onnx_file = folder / "manifest.json", folder / "model.onnx"
        try:
            text = read_regular(manifest_file)
            self._check_signature(folder, text)
            manifest = Manifest.from_json(text)
            onnx = read_regular(onnx_file)
        except (ManifestError, SignatureError, OSError) as error:
            raise CorruptVersionError(f"{folder}: {error}") from error
        if (manifest.model, manifest.version) != (model, version):
            raise CorruptVersionError(
                f"{manifest_file}: belongs to {manifest.model} version {manifest.version}"
            )
        if manifest.schema.fingerprint != manifest.fingerprint:
            raise CorruptVersionError(f"{manifest_file}: fingerprint is not that of its schema")
        if sha256_hex(onnx) != manifest.sha256:
            raise CorruptVersionError(f"{onnx_file}: SHA-256 is not the one in manifest.json")
        return manifest, onnx

    def _check_signature(self, folder: Path, manifest: bytes) -> None:
        if self._verifier is None:
            return
        file = folder / _SIGNATURE
        self._verifier.check(manifest, read_regular(file) if file.exists() else None)

    def _write_card(self, folder: Path, manifest: Manifest) -> None:
        """The model card as of now, and its plot: for people, nothing reads them."""
        pipeline, served = (self._evaluation(manifest.model, side) for side in _SIDES)
        bins = calibration_of(manifest, pipeline, served)
        if bins:
            (folder / _PLOT).write_text(calibration_svg(bins), encoding="utf-8")
        card = render_card(manifest, pipeline, served, _PLOT if bins else "")
        (folder / "card.md").write_text(card, encoding="utf-8")

    def _evaluation(self, model: str, side: Side) -> dict[str, Any] | None:
        try:
            return read_evaluation(evaluation_file(self.root, model, side))
        except EvaluationFileError:
            # A broken file of figures is no reason not to publish.
            return None

    def identity(self, model: str, version: str) -> tuple[int, int]:
        """Tells a version from another one of that number, as a replay may put in its place.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there is none.
        """
        try:
            status = self._version_folder(model, version).stat()
        except FileNotFoundError as error:
            raise VersionNotFoundError(f"model {model!r} has no version {version!r}") from error
        return status.st_ino, status.st_mtime_ns

    def take_over(self, other: ModelRepository, model: str, follower: str) -> None:
        """Put another repository's audit of a model before our own, and keep what was chosen there.

        Chosen are a champion that anybody but ``follower`` set last, shadow and challenger; each is
        kept if we have that very version. If the chosen champion cannot be kept, the challenger is
        not either: nobody has compared it with another one.

        Raises:
            ModelRepositoryError: the other repository cannot be read.
        """
        theirs = other.audit(model)
        folder = self._folder(model)
        with exclusive(folder / ".lock"):
            # Doing it again must not tell anything twice: our own begin behind what was taken over.
            known = _taken(folder)
            entries = [*theirs, *self.audit(model)[known:]]
            text = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries).encode()
            announced = f"{known} {len(theirs)} {len(text)} {sha256_hex(text)}"
            replace_file(folder / _TAKEN, announced.encode())
            replace_file(folder / "audit.ndjson", text)
            chosen, last = other.channels(model), {entry.channel: entry for entry in theirs}
            names: tuple[Channel, ...] = ("champion", "shadow", "challenger")
            for name in names:
                if name not in last or (name == "champion" and last[name].actor == follower):
                    continue
                is_empty = name != "champion" and chosen.version(name) is None
                if not is_empty and not self._has_the_same(other, model, chosen.version(name)):
                    if name == "champion":
                        return
                    continue
                new = self._old(model).pointing(name, chosen.version(name))
                if name == "challenger":
                    new = replace(new, weights=chosen.weights, salt=chosen.salt)
                why = last[name]
                self._change(model, new, "set", why.reason, why.actor, why.at_us)

    def _has_the_same(self, other: ModelRepository, model: str, version: str | None) -> bool:
        if version is None or version not in self.versions(model):
            return False
        return self.load(model, version)[0].sha256 == other.load(model, version)[0].sha256

    def _refuse_other(self, manifest: Manifest) -> None:
        """Raise unless the version in the repository is the one of ``manifest``."""
        present, _ = self.load(manifest.model, manifest.version)
        if not manifest.same_version_as(present):
            raise VersionConflictError(
                f"{self.root / manifest.model / manifest.version} exists with other contents; "
                "versions never change: publish under the next number"
            )


def _taken(folder: Path) -> int:
    """How many entries of the audit in a folder another repository has given.

    The file says how many there were, and how many there are once the audit begins as announced:
    who was killed between the two files has changed nothing.
    """
    file = folder / _TAKEN
    if not file.exists():
        return 0
    before, *announced = file.read_text().split()
    if announced:
        count, size, digest = announced
        audit = folder / "audit.ndjson"
        if audit.exists() and sha256_hex(audit.read_bytes()[: int(size)]) == digest:
            return int(count)
    return int(before)


def _key_of(read: Callable[[Path], _Key], setting: str, file: str) -> _Key | None:
    """The key of a setting; None if that is empty."""
    try:
        return read(Path(file)) if file else None
    except SignatureError as error:
        raise SignatureError(f"{PREFIX}{setting}: {error}") from error
