"""New model versions on their way into the model repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from contracts.manifest import Manifest, sha256_hex
from contracts.model_repository import ModelRepository
from contracts.plan import ModelPlan
from dataflows.learning.records import NewVersion

ACTOR = "dataflow"


class VersionPublisher:
    """Publishes what a learner made and lets the champion follow it."""

    def __init__(
        self,
        repository: ModelRepository,
        models: Mapping[str, ModelPlan],
        learners: Mapping[str, str],
        git_commit: str,
        wall_us: Callable[[], int],
    ) -> None:
        """``learners`` is the text form of each model's estimator, for people."""
        self._repository = repository
        self._models = models
        self._learners = learners
        self._git_commit = git_commit
        self._wall_us = wall_us

    def publish(self, model: str, new: NewVersion, offsets: Mapping[str, int]) -> None:
        """Publish one version; raise ModelRepositoryError if another one has its number."""
        manifest = self._manifest(model, new, offsets)
        self._repository.publish(manifest, new.onnx)
        champion = self._repository.channels(model).champion
        # Replaying what is published already must not take the champion back.
        if champion is None or int(champion) < new.version:
            reason = f"learned {new.examples} examples"
            at_us = self._wall_us()
            self._repository.set_channel(model, "champion", manifest.version, reason, ACTOR, at_us)

    def _manifest(self, model: str, new: NewVersion, offsets: Mapping[str, int]) -> Manifest:
        schema = self._models[model].schema
        return Manifest(
            model=model,
            version=str(new.version),
            schema=schema,
            fingerprint=schema.fingerprint,
            learner=self._learners[model],
            trained_from_us=new.trained_from_us,
            trained_until_us=new.trained_until_us,
            examples=new.examples,
            metrics={name: value for name, value in new.metrics.items() if value is not None},
            parity={"rows": new.parity.rows, "max_abs_diff": new.parity.max_abs_diff},
            git_commit=self._git_commit,
            parent=str(new.version - 1) if new.version > 1 else None,
            sha256=sha256_hex(new.onnx),
            created_by=ACTOR,
            offsets=dict(offsets),
        )
