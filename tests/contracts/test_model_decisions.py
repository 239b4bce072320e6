"""Versions that are withdrawn, and what people decided when another repository takes over."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from contracts import model_repository
from contracts.durable_files import replace_file
from contracts.manifest import sha256_hex
from contracts.model_channels import Channels
from contracts.model_repository import (
    CorruptVersionError,
    ModelNotFoundError,
    ModelRepository,
)
from tests.contracts.test_model_repository import manifest

ACTOR = "dataflow"


def _publish(repository: ModelRepository, version: str, maker: str, onnx: bytes = b"m") -> None:
    made = replace(manifest(version), created_by=maker, sha256=sha256_hex(onnx))
    repository.publish(made, onnx)


def _follow(repository: ModelRepository, *versions: str) -> None:
    """Publish versions as the dataflow does, each champion after the other."""
    for version in versions:
        _publish(repository, version, ACTOR, version.encode())
        repository.set_channel("fraud", "champion", version, "learned", ACTOR, int(version))


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    """The repository that is looked at."""
    return ModelRepository(tmp_path / "models")


@pytest.fixture
def fresh(tmp_path: Path) -> ModelRepository:
    """The one that is to take its place."""
    return ModelRepository(tmp_path / "fresh")


def test_only_the_actors_later_versions_go(repository: ModelRepository) -> None:
    """Earlier versions, and later ones that somebody else made, stay."""
    for version, maker in [("1", ACTOR), ("2", ACTOR), ("3", "ann"), ("4", ACTOR), ("10", ACTOR)]:
        _publish(repository, version, maker)
    repository.withdraw_after("fraud", 1, "resumed", ACTOR, 5)
    assert repository.versions("fraud") == ["1", "3"]


def test_a_champion_that_goes_gives_way(repository: ModelRepository) -> None:
    """The newest version that stays becomes champion, which the audit tells."""
    _follow(repository, "1", "2", "3")
    repository.withdraw_after("fraud", 2, "resumed", ACTOR, 5)
    assert repository.channels("fraud").champion == "2"
    last = repository.audit("fraud")[-1]
    assert (last.version, last.previous, last.reason, last.actor) == ("2", "3", "resumed", ACTOR)
    repository.withdraw_after("fraud", 0, "resumed", ACTOR, 6)
    assert repository.channels("fraud").champion is None
    assert repository.versions("fraud") == []


def test_a_champion_that_stays_is_left_alone(repository: ModelRepository) -> None:
    """Withdrawing others changes no channel and writes no audit."""
    _follow(repository, "1", "2", "3")
    repository.rollback("fraud", "worse", "ann", 5)
    before = repository.audit("fraud")
    repository.withdraw_after("fraud", 2, "resumed", ACTOR, 6)
    assert repository.channels("fraud").champion == "2"
    assert repository.audit("fraud") == before


def test_no_model_no_withdrawal(repository: ModelRepository) -> None:
    """A dataflow that resumes before its first version has nothing to take back."""
    repository.withdraw_after("fraud", 0, "resumed", ACTOR, 5)
    assert repository.models() == []


def test_what_nobody_can_read_is_not_removed(repository: ModelRepository) -> None:
    """A version whose maker is unknown stops the withdrawal before anything went."""
    _follow(repository, "1", "2", "3")
    (repository.root / "fraud" / "3" / "manifest.json").write_text("{")
    with pytest.raises(CorruptVersionError, match=r"3/manifest.json"):
        repository.withdraw_after("fraud", 1, "resumed", ACTOR, 5)
    assert repository.versions("fraud") == ["1", "2", "3"]


def test_the_audit_is_kept_in_front(repository: ModelRepository, fresh: ModelRepository) -> None:
    """The other repository's entries come first and unchanged, then our own."""
    _follow(repository, "1", "2")
    _follow(fresh, "1")
    theirs, ours = repository.audit("fraud"), fresh.audit("fraud")
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.audit("fraud") == theirs + ours
    assert repository.audit("fraud") == theirs
    # A replay that was interrupted does it again, and the other has gone on meanwhile.
    _follow(repository, "3")
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.audit("fraud") == repository.audit("fraud") + ours


@pytest.mark.parametrize("dies_at", [1, 2])
def test_a_death_while_the_audit_is_taken_over_tells_nothing_twice(
    repository: ModelRepository,
    fresh: ModelRepository,
    monkeypatch: pytest.MonkeyPatch,
    dies_at: int,
) -> None:
    """Killed before the first or the second file is replaced, it is done again as if for once."""
    _follow(repository, "1", "2")
    _follow(fresh, "1")
    ours = fresh.audit("fraud")
    fresh.take_over(repository, "fraud", ACTOR)
    _follow(repository, "3")
    calls = itertools.count(1)

    def replaced(path: Path, content: bytes) -> None:
        if next(calls) == dies_at:
            raise KeyboardInterrupt
        replace_file(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(model_repository, "replace_file", replaced)
        with pytest.raises(KeyboardInterrupt):
            fresh.take_over(repository, "fraud", ACTOR)
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.audit("fraud") == repository.audit("fraud") + ours


def test_a_champion_that_was_chosen_is_kept(
    repository: ModelRepository, fresh: ModelRepository
) -> None:
    """A rollback by hand lasts, if the version is the very same; who did it stays known."""
    for each in (repository, fresh):
        _follow(each, "1", "2", "3")
    repository.rollback("fraud", "worse", "ann", 9)
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.channels("fraud").champion == "2"
    last = fresh.audit("fraud")[-1]
    assert (last.version, last.reason, last.actor, last.at_us) == ("2", "worse", "ann", 9)


def test_a_champion_that_followed_is_not_kept(
    repository: ModelRepository, fresh: ModelRepository
) -> None:
    """What the follower set last is no decision: the new repository's champion stays."""
    _follow(repository, "1", "2")
    repository.rollback("fraud", "worse", "ann", 9)
    repository.set_channel("fraud", "champion", "2", "learned", ACTOR, 10)
    _follow(fresh, "1", "2", "3")
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.channels("fraud").champion == "3"


def test_another_model_of_that_number_is_not_chosen(
    repository: ModelRepository, fresh: ModelRepository
) -> None:
    """The choice was of other bytes, or of a version that is gone: it is not kept."""
    _follow(repository, "1", "2", "3")
    _publish(fresh, "1", ACTOR)
    _publish(fresh, "2", ACTOR)
    fresh.set_channel("fraud", "champion", "1", "learned", ACTOR, 1)
    repository.promote("fraud", "2", "better", "ann", 9)
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.channels("fraud").champion == "1"
    repository.promote("fraud", "3", "best", "ann", 10)
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.channels("fraud").champion == "1"


def test_a_champion_that_was_emptied(repository: ModelRepository, fresh: ModelRepository) -> None:
    """Serving nothing cannot be kept by version: the new repository's champion stays."""
    for each in (repository, fresh):
        _follow(each, "1")
    repository.set_channel("fraud", "champion", None, "broken", "ann", 9)
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.channels("fraud").champion == "1"


def test_a_model_that_one_side_lacks(repository: ModelRepository, fresh: ModelRepository) -> None:
    """A model that the other repository does not have cannot be taken over."""
    _follow(fresh, "1")
    with pytest.raises(ModelNotFoundError):
        fresh.take_over(repository, "fraud", ACTOR)


def test_a_rollout_goes_on_after_a_replay(
    repository: ModelRepository, fresh: ModelRepository
) -> None:
    """Challenger, share, salt and shadow are kept with the champion, if they are the very same."""
    for each in (repository, fresh):
        _follow(each, "1", "2", "3", "4")
    repository.promote("fraud", "2", "better", "evaluator", 9)
    repository.set_channel("fraud", "shadow", "4", "watch", "ann", 10)
    repository.set_challenger("fraud", "3", 0.1, "s", "try", "evaluator", 11)
    repository.set_share("fraud", 0.5, None, "fine", "evaluator", 12)
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.channels("fraud") == repository.channels("fraud")
    last = fresh.audit("fraud")[-1]
    assert (last.channel, last.version, last.share, last.actor) == (
        "challenger",
        "3",
        0.5,
        "evaluator",
    )


def test_a_challenger_goes_with_the_champion_it_met(
    repository: ModelRepository, fresh: ModelRepository
) -> None:
    """Where the chosen champion is another model now, nobody has compared the challenger."""
    _follow(repository, "1", "2", "3")
    _publish(fresh, "1", ACTOR, b"other")
    _publish(fresh, "3", ACTOR, b"3")
    fresh.set_channel("fraud", "champion", "1", "learned", ACTOR, 1)
    repository.promote("fraud", "1", "better", "ann", 9)
    repository.set_challenger("fraud", "3", 0.1, "s", "try", "evaluator", 11)
    fresh.take_over(repository, "fraud", ACTOR)
    assert fresh.channels("fraud") == Channels("1")


def test_a_version_that_was_rolled_back_does_not_return(repository: ModelRepository) -> None:
    """A champion that goes gives way to the one before it, not to one that was found to be bad."""
    for version in ("1", "2", "3"):
        _publish(repository, version, ACTOR)
    repository.set_channel("fraud", "champion", "1", "first", ACTOR, 1)
    repository.set_challenger("fraud", "2", 0.1, "s", "try", "evaluator", 2)
    repository.set_channel("fraud", "challenger", None, "worse", "evaluator", 3)
    repository.promote("fraud", "3", "better", "evaluator", 4)
    repository.withdraw_after("fraud", 2, "resumed", ACTOR, 5)
    assert repository.channels("fraud").champion == "1"


def test_a_withdrawal_that_dies_can_be_done_again(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed among the files of a version, it leaves none that nobody can read."""
    _follow(repository, "1", "2")

    def die(folder: Path) -> None:
        (folder / "manifest.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            repository.withdraw_after("fraud", 1, "resumed", ACTOR, 5)
    repository.withdraw_after("fraud", 1, "resumed", ACTOR, 6)
    _publish(repository, "2", ACTOR, b"again")
    names = {each.name for each in (repository.root / "fraud").iterdir()}
    assert not [name for name in names if name.startswith(".tmp")]
