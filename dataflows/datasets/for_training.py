"""What `headwater train` learns from, and how a version says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contracts.plan import ModelPlan
from dataflows.datasets.catalogue import Catalogue
from dataflows.datasets.checking import check_stored
from dataflows.datasets.errors import DatasetError
from dataflows.flow.progress import read_progress


@dataclass(frozen=True)
class Source:
    """Where examples are from.

    Attributes:
        lineage: for the version's manifest and card: name -> text.
        offsets: ``topic/partition`` -> offset up to which the log was read for them.
    """

    lineage: Mapping[str, str]
    offsets: Mapping[str, int] = field(default_factory=dict)


def source_of_dataset(catalogue: Catalogue, name: str, plan: ModelPlan) -> Source:
    """A data set that the model, as it is defined now, can learn from.

    Raises:
        DatasetError: there is none, it is of another model, vector or label, or its files are not
            as they were written.
    """
    manifest = check_stored(catalogue, name)
    origin = manifest.origin
    if manifest.model != plan.name:
        raise DatasetError(f"data set {name!r} is of model {manifest.model!r}, not {plan.name!r}")
    for what, then, now in (
        ("vector", origin.fingerprint, plan.schema.fingerprint),
        ("label", origin.label, label_text(plan)),
    ):
        if then != now:
            raise DatasetError(
                f"data set {name!r} is of commit {origin.commit[:12]}, where the {what} of model "
                f"{plan.name!r} was {then}; it is {now} now: build a data set of the definitions "
                f"as they are with `headwater dataset build {plan.name}`"
            )
    log_range = {one.name: [one.first, one.end] for one in manifest.log.partitions}
    lineage = {
        "dataset": name,
        "dataset_digest": f"sha256:{manifest.figures.digest}",
        "dataset_commit": origin.commit + (" with changes" if origin.has_changes else ""),
        "dataset_definitions": f"sha256:{origin.definitions}",
        "dataset_log": json.dumps(log_range),
    }
    return Source(lineage, {one.name: one.end for one in manifest.log.partitions})


def source_of_dataflow(state: Path) -> Source:
    """The dataflow's own examples, which grow: to be asked for after they were read.

    How far the dataflow had come by then says what they cannot be newer than.
    """
    offsets: dict[str, int] = {}
    try:
        workers = read_progress(state)
    except FileNotFoundError:
        workers = []  # a run that begins removes what the one before has said
    for worker in workers:
        for partition, at in worker.partitions.items():
            offsets[partition] = max(at.offset, offsets.get(partition, 0))
    return Source({"dataset": "none"}, dict(sorted(offsets.items())))


def label_text(plan: ModelPlan) -> str:
    """What comes true for a model, as one text."""
    if not plan.label_topic:
        return plan.task
    return f"{plan.task}: {plan.label_topic}: {plan.label_value}"
