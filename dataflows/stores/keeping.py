"""What is not in the log, and so is carried over from the models that a replay replaces.

That is done twice: ahead, for what takes long, and once more when nobody can change anything until
the new models have taken their place. What somebody decides meanwhile is decided.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.durable_files import exclusive
from contracts.evaluation_file import keep_served
from contracts.manifest import learned_number
from contracts.model_repository import ModelRepository, ModelRepositoryError
from dataflows.versions import ACTOR

_LOCK = ".lock"


@dataclass(frozen=True)
class KeptModel:
    """One model in two repositories, of which one takes the other's place.

    Attributes:
        name: of the model.
        fingerprint: of its vector now.
        live: root of the repository that is replaced.
        fresh: root of the one that takes its place.
    """

    name: str
    fingerprint: str
    live: str
    fresh: str


def keep(models: tuple[KeptModel, ...]) -> None:
    """Carry over batch-trained versions, audits, chosen champions, figures of what was served.

    Raises:
        OSError: the disk is full.
    """
    for model in models:
        live, fresh = Path(model.live), Path(model.fresh)
        _keep_batch_versions(model, live, fresh)
        _keep_decisions(model.name, live, fresh)


@contextmanager
def keeping(models: tuple[KeptModel, ...]) -> Iterator[None]:
    """``keep``, and nobody changes these models until the block is left.

    Those that have taken their place already are passed over. Raises as ``keep``.
    """
    left = tuple(one for one in models if (Path(one.fresh) / one.name).is_dir())
    with ExitStack() as locks:
        for one in sorted(left, key=lambda one: one.name):
            folder = Path(one.live) / one.name
            if folder.is_dir():
                locks.enter_context(exclusive(folder / _LOCK))
        keep(left)
        yield


def _keep_batch_versions(model: KeptModel, live: Path, fresh: Path) -> None:
    """Carry over what was trained outside of the log, unless the vector is another one now."""
    old = ModelRepository(live)
    if model.name not in old.models():
        return
    for version in old.versions(model.name):
        kept = fresh / model.name / version
        if learned_number(version) is not None or kept.exists():
            continue
        try:
            manifest, _ = old.load(model.name, version)
        except ModelRepositoryError:
            continue  # what cannot be read cannot be kept
        if manifest.fingerprint == model.fingerprint:
            # With its signature, which nobody could make anew. A killed replay may have begun it.
            begun = fresh / model.name / f".{version}.kept"
            shutil.rmtree(begun, ignore_errors=True)
            shutil.copytree(live / model.name / version, begun)
            begun.rename(kept)


def _keep_decisions(model: str, live: Path, fresh: Path) -> None:
    """Carry over audits, chosen champions, figures of what was served."""
    old, new = ModelRepository(live), ModelRepository(fresh)
    if model not in new.models() or model not in old.models():
        return
    try:
        keep_served(old.root, new.root, model)
        new.take_over(old, model, ACTOR)
    except (ModelRepositoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        # What cannot be read cannot be kept; the replay mends it.
