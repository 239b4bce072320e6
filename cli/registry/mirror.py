"""Mirrors versions, metrics and channels of the model repository into an MLflow registry.

One registered model for each model; one run with the files, figures and lineage for each version;
one alias for each channel. What is there already is left alone, so that a mirror that was
interrupted is run again, and running it twice changes nothing. MLflow numbers versions itself: ours
stands in the tag ``headwater.version``.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import onnx

from contracts.evaluation_file import Side, evaluation_file, read_evaluation
from contracts.manifest import Manifest, learned_number, version_order
from contracts.model_channels import Channel
from contracts.model_repository import ModelRepository

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

VERSION_TAG = "headwater.version"
SHA256_TAG = "headwater.sha256"
FOLDER = "model"
_SHARE_TAG = "headwater.challenger_share"
_PAGE = 200
_PAGES_MAX = 100
# MLflow refuses longer ones.
_PARAM_MAX = 6_000
_SIDES: tuple[Side, ...] = get_args(Side)


@dataclass
class Mirrored:
    """What one pass did, in numbers of versions, aliases and metrics written."""

    versions: int = 0
    aliases: int = 0
    metrics: int = 0


class Mirror:
    """Brings one MLflow registry up to date with one model repository."""

    def __init__(self, client: MlflowClient, repository: ModelRepository, prefix: str) -> None:
        """``prefix`` stands before the name of each registered model and experiment."""
        self._client = client
        self._repository = repository
        self._prefix = prefix

    def mirror(self, model: str, newest: int) -> Mirrored:
        """Bring one model up to date: its ``newest`` versions of each kind, and those in channels.

        Raises:
            ModelRepositoryError: the model or a version of it cannot be read.
            MlflowException: MLflow refuses, or does not answer.
        """
        done = Mirrored()
        name = self._prefix + model
        channels = self._repository.channels(model)
        serving = {channel: channels.version(channel) for channel in get_args(Channel)}
        known = self._known(name)
        versions = newest_of(self._repository.versions(model), newest)
        wanted = {*versions, *filter(None, serving.values())}
        entries: dict[str | None, ModelVersion] = {}
        for number in sorted(wanted, key=version_order):
            manifest, model_bytes = self._repository.load(model, number)
            entry = known.get((number, manifest.sha256))
            if entry is None:
                entry = self._add(name, manifest, model_bytes)
                done.versions += 1
            entries[number] = entry
            done.metrics += self._measure(entry, manifest)
        for channel, version in serving.items():
            done.aliases += self._point(name, channel, entries.get(version))
        share = f"{channels.challenger_share:g}"
        self._client.set_registered_model_tag(name, _SHARE_TAG, share)
        return done

    def _known(self, name: str) -> dict[tuple[str, str], ModelVersion]:
        """(version, SHA-256) -> what MLflow has of it; makes the registered model if need be."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self._client.create_registered_model(name)
        known: dict[tuple[str, str], ModelVersion] = {}
        token: Any = None
        for _ in range(_PAGES_MAX):
            page = self._client.search_model_versions(
                f"name = '{name}'", max_results=_PAGE, page_token=token
            )
            for entry in page:
                known[entry.tags.get(VERSION_TAG, ""), entry.tags.get(SHA256_TAG, "")] = entry
            token = page.token or None
            if token is None:
                break
        return known

    def _add(self, name: str, manifest: Manifest, model_bytes: bytes) -> ModelVersion:
        run = self._run(name, manifest)
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), manifest, model_bytes)
            for extra in ("card.md", "calibration.svg", "manifest.sig"):
                file = self._repository.root / manifest.model / manifest.version / extra
                if file.exists():
                    (Path(folder) / extra).write_bytes(file.read_bytes())
            self._client.log_artifacts(run.info.run_id, folder, FOLDER)
        self._client.set_terminated(run.info.run_id)
        return self._client.create_model_version(
            name,
            f"{run.info.artifact_uri}/{FOLDER}",
            run.info.run_id,
            tags={VERSION_TAG: manifest.version, SHA256_TAG: manifest.sha256},
            description=manifest.intended_use,
        )

    def _run(self, name: str, manifest: Manifest) -> Run:
        """A run with what is known of the version; one that was left half-way is used again."""
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        query = (
            f"tags.`{VERSION_TAG}` = '{manifest.version}' "
            f"and tags.`{SHA256_TAG}` = '{manifest.sha256}'"
        )
        left = self._client.search_runs([number], query, max_results=1)
        tags = {VERSION_TAG: manifest.version, SHA256_TAG: manifest.sha256}
        run = (
            left[0]
            if left
            else self._client.create_run(number, run_name=f"version {manifest.version}", tags=tags)
        )
        for key, value in params(manifest).items():
            self._client.log_param(run.info.run_id, key, value[:_PARAM_MAX])
        for key, number_of in manifest.metrics.items():
            self._client.log_metric(run.info.run_id, key, number_of, timestamp=0)
        return run

    def _measure(self, entry: ModelVersion, manifest: Manifest) -> int:
        """Write figures measured since, each as ``side.name``, if there are newer ones."""
        written = 0
        if entry.run_id is None:
            return 0
        for side in _SIDES:
            report = read_evaluation(evaluation_file(self._repository.root, manifest.model, side))
            found = (report or {}).get("versions", {}).get(manifest.version)
            if not found:
                continue
            figures: Mapping[str, Any] = found["all"]
            step = int(figures.get("outcomes") or 0)
            run = self._client.get_run(entry.run_id)
            if run.data.metrics.get(f"{side}.outcomes") == step:
                continue
            for name, value in figures.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if is_number and math.isfinite(value):
                    self._client.log_metric(
                        entry.run_id, f"{side}.{name}", float(value), timestamp=step, step=step
                    )
                    written += 1
        return written

    def _point(self, name: str, channel: str, entry: ModelVersion | None) -> int:
        """Have the alias of a channel point where the channel does; 1 if it did not."""
        aliases = self._client.get_registered_model(name).aliases
        wanted = None if entry is None else str(entry.version)
        present = aliases.get(channel)
        if wanted == (None if present is None else str(present)):
            return 0
        if wanted is None:
            self._client.delete_registered_model_alias(name, channel)
        else:
            self._client.set_registered_model_alias(name, channel, wanted)
        return 1


def newest_of(versions: Sequence[str], count: int) -> list[str]:
    """The newest that the dataflow learned, and as many of batch training, each oldest first."""
    batch = [version for version in versions if learned_number(version) is None]
    learned = [version for version in versions if learned_number(version) is not None]
    return [*batch[-count:], *learned[-count:]]


def params(manifest: Manifest) -> dict[str, str]:
    """Where a version came from, as MLflow's parameters."""
    facts = {
        "learner": " ".join(manifest.learner.split()),
        "task": manifest.task,
        "examples": str(manifest.examples),
        "trained_from_us": str(manifest.trained_from_us),
        "trained_until_us": str(manifest.trained_until_us),
        "parent": manifest.parent or "",
        "git_commit": manifest.git_commit,
        "fingerprint": manifest.fingerprint,
        "created_by": manifest.created_by,
        "offsets": json.dumps(dict(manifest.offsets), sort_keys=True),
        **{f"lineage.{name}": text for name, text in manifest.lineage.items()},
    }
    return {name: text for name, text in facts.items() if text}


def write_files(folder: Path, manifest: Manifest, model_bytes: bytes) -> None:
    """A folder that MLflow itself loads as an ONNX model, with the manifest in it."""
    from mlflow.models import Model

    (folder / "model.onnx").write_bytes(model_bytes)
    (folder / "manifest.json").write_text(manifest.to_json())
    described = Model()
    described.add_flavor(
        "onnx",
        onnx_version=onnx.__version__,
        data="model.onnx",
        providers=["CPUExecutionProvider"],
        onnx_session_options=None,
    )
    described.save(str(folder / "MLmodel"))
