"""What is not in the log, and so is carried over from the models that a replay replaces."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from contracts.evaluation_file import keep_served
from contracts.manifest import learned_number
from contracts.model_repository import ModelRepository, ModelRepositoryError
from contracts.plan import ModelPlan
from dataflows.versions import ACTOR


def keep_batch_versions(model: ModelPlan, live: Path, fresh: Path) -> None:
    """Carry over what was trained outside of the log, unless the vector is another one now."""
    old = ModelRepository(live)
    if model.name not in old.models():
        return
    for version in old.versions(model.name):
        if learned_number(version) is not None:
            continue
        try:
            manifest, _ = old.load(model.name, version)
        except ModelRepositoryError:
            continue  # what cannot be read cannot be kept
        if manifest.fingerprint == model.schema.fingerprint:
            # With its signature, which nobody could make anew. A killed replay may have begun it.
            kept = fresh / model.name / version
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(live / model.name / version, kept)


def keep_decisions(live: Path, fresh: Path) -> None:
    """Carry over audits, chosen champions, figures of what was served."""
    old, new = ModelRepository(live), ModelRepository(fresh)
    for model in new.models():
        if model not in old.models():
            continue
        try:
            keep_served(old.root, new.root, model)
            new.take_over(old, model, ACTOR)
        except (ModelRepositoryError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            continue  # what cannot be read cannot be kept; the replay mends it
