"""Old versions of a model go while the flow runs, and nothing else changes by that."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.model_repository import ModelRepository
from dataflows.definitions.repository import Repository
from dataflows.flow.build import _publisher
from dataflows.flow.run_context import RunContext
from dataflows.flow.sinks import NewVersions, VersionPartition
from dataflows.learning.parity import Parity
from dataflows.learning.records import NewVersion
from tests.flow import shop
from tests.flow.conftest import Run


def test_a_run_that_keeps_few_versions(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, run: Run
) -> None:
    """The newest are there, byte for byte, of the older ones few; all tables are the same."""
    out = tmp_path / "out"
    given = {"batch_bytes": 9_000, "epoch_seconds": 0.0}
    run(new_log, out, model_repository=out / "models", model_versions_kept=1, **given)
    all_models, models = (ModelRepository(each / "models") for each in (first_run[1], out))
    everything, left = all_models.versions("late_order"), models.versions("late_order")
    # One, and those of four epochs in which there were new ones.
    assert everything[-2:] == left[-2:]
    assert len(left) < len(everything)
    assert "1" not in left
    for version in left:
        assert models.load("late_order", version)[1] == all_models.load("late_order", version)[1]
    assert models.channels("late_order") == all_models.channels("late_order")
    found, wanted = shop.digests(out), shop.digests(first_run[1])
    assert {**found, "models": ""} == {**wanted, "models": ""}


def test_versions_say_how_far_the_labels_were_read(
    repository: Repository, first_run: tuple[Path, Path]
) -> None:
    """Up to the end of a record, the last one to the end of the log."""
    log, out = first_run
    topic = repository.plan.model("late_order").label_topic
    models = ModelRepository(out / "models")
    read = [models.load("late_order", v)[0].offsets for v in models.versions("late_order")]
    data = (log / topic / "0.ndjson").read_bytes()
    ends = [place + 1 for place, byte in enumerate(data) if byte == ord("\n")]
    offsets = [one[f"{topic}/0"] for one in read]
    assert set(offsets) <= {0, *ends}
    assert offsets[-1] >= ends[-2]
    assert offsets == sorted(offsets)


@pytest.fixture
def context(repository: Repository, tmp_path: Path) -> RunContext:
    """A run that keeps one version where it is live."""
    out = tmp_path / "out"
    given = {"model_repository": out / "models", "model_versions_kept": 1}
    settings = shop.settings(repository.directory, tmp_path / "log", out, **given)
    return RunContext(settings, shop.places(out), None, threading.Event())


def test_a_replay_keeps_all(repository: Repository, context: RunContext) -> None:
    """What somebody chose of the versions that it makes it finds out when it is done."""
    elsewhere = replace(context.places, models=context.places.models.with_name("models.replay"))
    for places, count in ((context.places, 1), (elsewhere, 3)):
        publisher = _publisher(repository, replace(context, places=places))
        for version in (1, 2, 3):
            publisher.publish("late_order", _version(version), {})
        ModelRepository(places.models).set_channel("late_order", "champion", "3", "", "dataflow", 1)
        (places.models / "late_order" / "audit.ndjson").unlink()
        publisher.retain("late_order", 3)
        assert len(ModelRepository(places.models).versions("late_order")) == count


def test_versions_of_the_last_epochs_do_not_count(context: RunContext) -> None:
    """A flow that was killed may make them again: what is before them must be there then."""
    until: list[int] = []

    class Publisher:
        def publish(self, *_: Any) -> None:
            """Nothing."""

        def retain(self, _: str, version: int) -> None:
            """Remember up to where."""
            until.append(version)

    told: Any = Publisher()
    with ThreadPoolExecutor(1) as writer:
        part = VersionPartition("late_order", told, writer, context, 3)
        for version in range(4, 11):
            part.write_batch([NewVersions("late_order", [_version(version)], [], {})])
            assert part.snapshot() == version
        for _ in range(9):
            # Without news nothing is looked for.
            part.snapshot()
        part.close()
    assert until == [3, 3, 3, 3, 4, 5, 6]


def _version(number: int) -> NewVersion:
    return NewVersion(number, number, 0, number, 1, {}, Parity(1, 0.0), b"%d" % number)
