"""A trained model as a version ``b1``, ``b2``, … of the model repository."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.manifest import Manifest, learned_number, sha256_hex
from contracts.model_channels import Channel
from contracts.model_repository import ModelNotFoundError, ModelRepository, VersionConflictError
from contracts.plan import ModelPlan
from dataflows.training.errors import TrainingError
from dataflows.training.train import Trained

_TRIES_MAX = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Publication:
    """Who publishes, and where to.

    Attributes:
        actor: a person or a process, for manifest and audit.
        git_commit: of the definitions; empty if unknown.
        channel: that gets the version; None for none.
        at_us: the moment, for the audit file, microseconds since 1970 UTC.
        examples_from: what the examples are of, for the lineage: name -> text.
        offsets: ``topic/partition`` -> offset up to which the log was read for them; may be empty.
    """

    actor: str
    git_commit: str
    channel: Channel | None
    at_us: int
    examples_from: Mapping[str, str] = field(default_factory=dict)
    offsets: Mapping[str, int] = field(default_factory=dict)


def publish(
    repository: ModelRepository, plan: ModelPlan, trained: Trained, publication: Publication
) -> Manifest:
    """Write the version under the next free number, and point the channel at it.

    Raises:
        ModelRepositoryError: the repository refuses it.
        TrainingError: others took every number tried.
    """
    for _ in range(_TRIES_MAX):
        manifest = _manifest(repository, plan, trained, publication)
        try:
            is_new = repository.publish(manifest, trained.onnx)
        except VersionConflictError:
            continue  # somebody else was faster
        if not is_new:
            continue
        if publication.channel is not None:
            repository.set_channel(
                plan.name,
                publication.channel,
                manifest.version,
                f"trained on {manifest.examples} examples",
                publication.actor,
                publication.at_us,
            )
        return manifest
    raise TrainingError(
        f"model {plan.name!r}: others publish under every number tried; train again later"
    )


def _manifest(
    repository: ModelRepository, plan: ModelPlan, trained: Trained, publication: Publication
) -> Manifest:
    try:
        versions = repository.versions(plan.name)
        parent = repository.channels(plan.name).champion
    except ModelNotFoundError:
        versions, parent = [], None
    taken = [int(version[1:]) for version in versions if learned_number(version) is None]
    return Manifest(
        model=plan.name,
        version=f"b{max(taken, default=0) + 1}",
        schema=plan.schema,
        fingerprint=plan.schema.fingerprint,
        learner=f"{trained.learner} {_json(trained.found.parameters)}",
        trained_from_us=trained.trained_from_us,
        trained_until_us=trained.trained_until_us,
        examples=trained.rows["fit"],
        metrics={name: each for name, each in trained.metrics.items() if math.isfinite(each)},
        parity={"rows": trained.parity.rows, "max_abs_diff": trained.parity.max_abs_diff},
        git_commit=publication.git_commit,
        parent=parent,
        sha256=sha256_hex(trained.onnx),
        created_by=publication.actor,
        offsets=publication.offsets,
        task=plan.task,
        classes=trained.classes,
        assign_by=plan.assign_by,
        segments=plan.segments,
        spine_key=plan.spine_key,
        intended_use=plan.intended_use,
        lineage={**lineage(trained), **publication.examples_from},
    )


def lineage(trained: Trained) -> dict[str, str]:
    """How the version was made, as the manifest keeps it; numbers and tables as JSON texts."""
    found, wishes = trained.found, trained.wishes
    return {
        "kind": "batch",
        "learner": trained.learner,
        "parameters": _json(found.parameters),
        "examples_digest": f"sha256:{trained.digest}",
        "rows": _json(trained.rows),
        "validation_from": _time(trained.split.validation_from_us),
        "test_from": _time(trained.split.test_from_us),
        "gap_seconds": f"{trained.split.gap_us / 1e6:g}",
        "seed": str(wishes.seed),
        "threads": str(wishes.threads),
        "trials": _json({"done": found.trials, "pruned": found.pruned}),
        "validation_loss": f"{found.loss:.9g}",
        "importance": _json(_rounded(trained.importance)),
        "calibration": _json(_rounded(trained.calibration)),
        "segments": _json(_rounded(trained.segments)),
    }


def _rounded(value: Any) -> Any:
    """Numbers for people: six digits after the point; None for what JSON cannot say."""
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else None


def _json(value: Any) -> str:
    return json.dumps(value, separators=(", ", ": "))


def _time(time_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat()
