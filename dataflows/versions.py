"""New model versions on their way into the model repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from contracts.manifest import Manifest, learned_number, sha256_hex
from contracts.model_repository import ModelRepository
from contracts.plan import ModelPlan
from dataflows.learning.records import NewVersion

ACTOR = "dataflow"
# To look for versions that can go takes the longer the more there are.
_LOOKS_APART_MAX = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class VersionPublisher:
    """Publishes what a learner made and lets the champion follow it."""

    def __init__(
        self,
        repository: ModelRepository,
        models: Mapping[str, ModelPlan],
        learners: Mapping[str, str],
        git_commit: str,
        wall_us: Callable[[], int],
        kept: int = 0,
    ) -> None:
        """Nothing is done yet.

        Args:
            repository: where versions go.
            models: name -> model.
            learners: the text form of each model's estimator, for people.
            git_commit: of the definitions.
            wall_us: microseconds since 1970, for the audit file.
            kept: see ``retain``; 0 keeps all versions.
        """
        self._repository = repository
        self._models = models
        self._learners = learners
        self._git_commit = git_commit
        self._wall_us = wall_us
        self._kept = kept
        self._look_at: dict[str, int] = {}

    def publish(self, model: str, new: NewVersion, offsets: Mapping[str, int]) -> None:
        """Publish one version; raise ModelRepositoryError if another one has its number."""
        manifest = self._manifest(model, new, offsets)
        is_new = self._repository.publish(manifest, new.onnx)
        if self._is_followed(model, new.version, is_new=is_new):
            reason = f"learned {new.examples} examples"
            at_us = self._wall_us()
            self._repository.set_channel(model, "champion", manifest.version, reason, ACTOR, at_us)

    def withdraw_after(self, model: str, version: int) -> None:
        """Take back what was published after ``version``: it will be learned again."""
        reason = f"the dataflow resumes after version {version}"
        self._repository.withdraw_after(model, version, reason, ACTOR, self._wall_us())

    def retain(self, model: str, until: int) -> None:
        """Let go of versions that are superseded, but for the newest ones up to ``until``.

        Args:
            model: whose.
            until: whatever happens, the flow goes on from this version or a later one.
        """
        if self._kept and until >= self._look_at.get(model, self._kept):
            self._repository.retain(model, self._kept, until, ACTOR)
            self._look_at[model] = until + min(max(self._kept // 10, 1), _LOOKS_APART_MAX)

    def _is_followed(self, model: str, version: int, *, is_new: bool) -> bool:
        """Whether the champion is to become this version.

        It follows the dataflow until somebody else sets it (a rollback must last), and again once
        somebody has set it to the newest version.
        """
        champion = self._repository.channels(model).champion
        if champion is None:
            return True
        if self._models[model].rollout is not None:
            return False
        number = learned_number(champion)
        if number is not None and number >= version:
            return False
        if is_new and number == version - 1:
            # Mostly so, and it spares reading an audit file that grows with every version.
            return True
        changes = [e for e in self._repository.audit(model) if e.channel == "champion"]
        return not changes or changes[-1].actor == ACTOR

    def _manifest(self, model: str, new: NewVersion, offsets: Mapping[str, int]) -> Manifest:
        plan = self._models[model]
        schema = plan.schema
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
            task=plan.task,
            classes=new.classes,
            assign_by=plan.assign_by,
            segments=plan.segments,
            spine_key=plan.spine_key,
            intended_use=plan.intended_use,
            lineage={
                "kind": "online",
                "learned_before": _time(new.boundary_us),
                "examples_digest": f"sha256:{new.examples_digest}",
            },
        )


def _time(time_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat()
