"""Takes a version that an MLflow registry has into the model repository."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cli.registry.errors import RegistryError
from cli.registry.mirror import FOLDER, VERSION_TAG
from contracts.manifest import Manifest, ManifestError
from contracts.model_repository import ModelRepository

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def find(client: MlflowClient, name: str, wanted: str) -> ModelVersion:
    """A version by our number, or by an alias: ``@champion``.

    Raises:
        RegistryError: there is none.
    """
    from mlflow.exceptions import MlflowException

    if wanted.startswith("@"):
        try:
            return client.get_model_version_by_alias(name, wanted[1:])
        except MlflowException as error:
            raise RegistryError(
                f"MLflow has no alias {wanted[1:]!r} of model {name!r}: {_first_line(error)}"
            ) from error
    query = f"name = '{name}' and tags.`{VERSION_TAG}` = '{wanted}'"
    found = client.search_model_versions(query, max_results=2)
    if not found:
        raise RegistryError(
            f"MLflow has no version {wanted!r} of model {name!r}; `headwater mlflow mirror` puts "
            "versions there"
        )
    if len(found) > 1:
        raise RegistryError(
            f"MLflow has several models that were version {wanted!r} of {name!r}, since the model "
            "was learned anew; ask for one by an alias, as in @champion"
        )
    return found[0]


def pull(client: MlflowClient, entry: ModelVersion, repository: ModelRepository) -> Manifest:
    """Publish that version in the repository; it may be there already.

    Raises:
        RegistryError: it was not mirrored by us, or its files do not fit together.
        VersionConflictError: the repository has another version of that number.
        CorruptVersionError: it is signed by none of the keys that the repository asks for.
    """
    if not entry.run_id:
        raise RegistryError(
            f"version {entry.version} of {entry.name!r} has no run; only versions that "
            "`headwater mlflow mirror` put there can be pulled"
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = Path(client.download_artifacts(entry.run_id, FOLDER, folder))
            manifest = Manifest.from_json((files / "manifest.json").read_bytes())
            model = (files / "model.onnx").read_bytes()
            signed = files / "manifest.sig"
            signature = signed.read_bytes() if signed.exists() else None
        except (OSError, ManifestError) as error:
            raise RegistryError(
                f"version {entry.version} of {entry.name!r} cannot be pulled: {error}"
            ) from error
        try:
            repository.take_in(manifest, model, signature)
        except ManifestError as error:
            raise RegistryError(
                f"version {entry.version} of {entry.name!r} was changed in MLflow: {error}"
            ) from error
    return manifest


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
