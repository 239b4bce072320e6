"""Versions that go because newer ones came: which, and what is never among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contracts.manifest import sha256_hex
from contracts.model_repository import ModelRepository, NoPreviousChampionError
from tests.contracts.test_model_repository import manifest

ACTOR = "dataflow"
MODEL = "fraud"


def publish(repository: ModelRepository, *versions: str) -> None:
    """Versions, none of them in a channel."""
    for version in versions:
        onnx = version.encode()
        repository.publish(replace(manifest(), version=version, sha256=sha256_hex(onnx)), onnx)


def follow(repository: ModelRepository, first: int, last: int) -> None:
    """Versions as the dataflow publishes them, each champion after the other."""
    for version in range(first, last + 1):
        publish(repository, f"{version}")
        repository.set_channel(MODEL, "champion", f"{version}", "learned", ACTOR, version)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    """A model with eight versions of the dataflow and one of batch training."""
    one = ModelRepository(tmp_path / "models")
    follow(one, 1, 8)
    publish(one, "b1")
    return one


def test_the_newest_stay(repository: ModelRepository) -> None:
    """Older ones of the dataflow go, from the disk too; what batch training made stays."""
    gone = repository.retain(MODEL, 3, 8, ACTOR)
    assert gone == ["1", "2", "3", "4", "5"]
    assert repository.versions(MODEL) == ["b1", "6", "7", "8"]
    left = {each.name for each in (repository.root / MODEL).iterdir()}
    assert left == {"6", "7", "8", "b1", "audit.ndjson", "channels.json", ".lock"}
    assert repository.retain(MODEL, 3, 8, ACTOR) == []


def test_later_ones_do_not_count(repository: ModelRepository) -> None:
    """Versions that a flow may have to make again do not make those before them superfluous."""
    assert repository.retain(MODEL, 3, 5, ACTOR) == ["1", "2"]


def test_what_a_channel_or_a_decision_names_stays(repository: ModelRepository) -> None:
    """Champion, challenger and shadow, and whatever people or rollouts have had in a channel."""
    repository.set_channel(MODEL, "shadow", "1", "watch", "ann", 20)
    repository.set_challenger(MODEL, "2", 0.1, "s", "step 1", "evaluator", 21)
    repository.set_channel(MODEL, "challenger", None, "worse", "evaluator", 22)
    repository.promote(MODEL, "4", "the best", "ann", 23)
    follow(repository, 9, 12)
    assert repository.retain(MODEL, 1, 12, ACTOR) == ["3", "5", "6", "7", "9", "10"]
    # 8 was champion when ann promoted 4, and 11 is where a rollback goes back to.
    assert repository.versions(MODEL) == ["b1", "1", "2", "4", "8", "11", "12"]
    assert repository.rollback(MODEL, "bad", "ann", 24) == "11"
    for version in repository.versions(MODEL):
        repository.load(MODEL, version)


def test_a_champion_that_waits_for_a_better_one_stays(tmp_path: Path) -> None:
    """Of a model with a rollout the dataflow's first version may serve for ever."""
    repository = ModelRepository(tmp_path)
    follow(repository, 1, 1)
    publish(repository, "2", "3", "4")
    assert repository.retain(MODEL, 1, 4, ACTOR) == ["2", "3"]


def test_a_rollback_passes_over_what_is_gone(repository: ModelRepository) -> None:
    """It goes back to the nearest champion before that is there, and says so if there is none."""
    repository.retain(MODEL, 1, 8, ACTOR)
    assert repository.rollback(MODEL, "bad", "ann", 30) == "7"
    with pytest.raises(NoPreviousChampionError):
        repository.rollback(MODEL, "bad", "ann", 31)
    repository.promote(MODEL, "8", "mended", "ann", 32)
    follow(repository, 9, 9)
    assert repository.rollback(MODEL, "bad", "ann", 33) == "8"


def test_a_rollback_goes_to_what_is_left(tmp_path: Path) -> None:
    """Where the champion right before was removed by hand, the one before that answers."""
    repository = ModelRepository(tmp_path)
    follow(repository, 1, 3)
    (tmp_path / MODEL / "2").rename(tmp_path / "elsewhere")
    assert repository.rollback(MODEL, "bad", "ann", 9) == "1"


def test_nothing_goes_while_nobody_knows_what_serves(repository: ModelRepository) -> None:
    """Broken channels may name any version."""
    (repository.root / MODEL / "channels.json").write_text("{")
    assert repository.retain(MODEL, 1, 8, ACTOR) == []
    assert len(repository.versions(MODEL)) == 9


def test_many_go_one_hundred_at_a_time(tmp_path: Path) -> None:
    """Whoever turns it on late holds up nobody for long; the next looks do the rest."""
    repository = ModelRepository(tmp_path)
    publish(repository, "1")
    for version in range(2, 112):
        (tmp_path / MODEL / f"{version}").mkdir()
    assert len(repository.retain(MODEL, 5, 111, ACTOR)) == 100
    assert repository.retain(MODEL, 5, 111, ACTOR) == [f"{n}" for n in range(101, 107)]
