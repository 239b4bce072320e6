"""The champion follows the dataflow until somebody decides otherwise, and again when they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.model_repository import ModelRepository
from contracts.plan import ModelPlan, RolloutPlan
from dataflows.definitions.repository import load_repository
from dataflows.learning.parity import Parity
from dataflows.learning.records import NewVersion
from dataflows.versions import ACTOR, VersionPublisher
from tests.flow import shop

MODEL = "late_order"
Publish = Callable[[int], None]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ModelPlan:
    """The shop's model."""
    folder = shop.make_repository(tmp_path_factory.mktemp("repository"))
    return load_repository(folder).plan.model(MODEL)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    """An empty model repository."""
    return ModelRepository(tmp_path / "models")


@pytest.fixture
def publisher(repository: ModelRepository, plan: ModelPlan) -> VersionPublisher:
    """Publishes into the repository at a clock that stands."""
    return VersionPublisher(repository, {MODEL: plan}, {MODEL: "learner"}, "abc", lambda: 77)


@pytest.fixture
def publish(publisher: VersionPublisher) -> Publish:
    """Publishes the version of a number, always the same one."""

    def publish_version(version: int) -> None:
        new = NewVersion(
            version, version, 0, version, 10 * version, {}, Parity(1, 0.0), b"onnx%d" % version
        )
        publisher.publish(MODEL, new, {"orders/0": version})

    return publish_version


def _champion(repository: ModelRepository) -> str | None:
    return repository.channels(MODEL).champion


def test_the_champion_follows(repository: ModelRepository, publish: Publish) -> None:
    """Each new version becomes champion, and the audit says why and when."""
    for version in (1, 2, 3):
        publish(version)
        assert _champion(repository) == str(version)
    last = repository.audit(MODEL)[-1]
    assert (last.actor, last.at_us, last.reason) == (ACTOR, 77, "learned 30 examples")


def test_a_clock_that_is_set_back(repository: ModelRepository, plan: ModelPlan) -> None:
    """Who came after whom is told by the order of the audit, not by its times."""
    clock = iter([900, 500, 100])
    names = {MODEL: "learner"}
    publisher = VersionPublisher(repository, {MODEL: plan}, names, "abc", lambda: next(clock))
    for version in (1, 2, 3):
        new = NewVersion(version, version, 0, version, 9, {}, Parity(1, 0.0), b"%d" % version)
        publisher.publish(MODEL, new, {"orders/0": version})
        assert _champion(repository) == str(version)
    assert [entry.at_us for entry in repository.audit(MODEL)] == [900, 500, 100]
    assert repository.rollback(MODEL, "worse", "ann", 50) == "2"
    assert repository.rollback(MODEL, "worse", "ann", 10) == "1"
    assert _champion(repository) == "1"


def test_a_rollback_lasts(repository: ModelRepository, publish: Publish) -> None:
    """After a rollback by hand new versions are published but do not serve."""
    publish(1)
    publish(2)
    repository.rollback(MODEL, "worse", "ann", 5)
    publish(3)
    publish(4)
    assert _champion(repository) == "1"
    assert repository.versions(MODEL) == ["1", "2", "3", "4"]


def test_a_promotion_of_an_older_one_lasts(repository: ModelRepository, publish: Publish) -> None:
    """Somebody who promotes a version that is not the newest wants that one."""
    for version in (1, 2, 3):
        publish(version)
    repository.promote(MODEL, "2", "better", "ann", 5)
    publish(4)
    assert _champion(repository) == "2"


def test_promoting_the_newest_lets_it_follow_again(
    repository: ModelRepository, publish: Publish
) -> None:
    """Whoever promotes the newest version after a rollback is content with the dataflow again."""
    publish(1)
    publish(2)
    repository.rollback(MODEL, "worse", "ann", 5)
    publish(3)
    repository.promote(MODEL, "3", "fine again", "ann", 6)
    publish(4)
    assert _champion(repository) == "4"
    publish(5)
    assert _champion(repository) == "5"


def test_publishing_again_moves_nothing_back(repository: ModelRepository, publish: Publish) -> None:
    """Versions that come again after a crash leave the champion and the audit as they are."""
    for version in (1, 2, 3):
        publish(version)
    before = repository.audit(MODEL)
    for version in (1, 2, 3):
        publish(version)
    assert _champion(repository) == "3"
    assert repository.audit(MODEL) == before


def test_publishing_again_undoes_no_rollback(repository: ModelRepository, publish: Publish) -> None:
    """A rollback to the version before lasts also if the newest one comes again."""
    publish(1)
    publish(2)
    repository.rollback(MODEL, "worse", "ann", 5)
    publish(2)
    assert _champion(repository) == "1"


def test_a_crash_before_the_champion_was_set(repository: ModelRepository, publish: Publish) -> None:
    """A version that was published but not made champion becomes it when it comes again."""
    publish(1)
    publish(2)
    repository.set_channel(MODEL, "champion", "1", "as before the crash", ACTOR, 5)
    publish(2)
    assert _champion(repository) == "2"


def test_what_was_withdrawn_is_followed_again(
    repository: ModelRepository, publisher: VersionPublisher, publish: Publish
) -> None:
    """After resuming from an earlier epoch the versions learned anew serve as before."""
    for version in (1, 2, 3):
        publish(version)
    publisher.withdraw_after(MODEL, 1)
    assert (repository.versions(MODEL), _champion(repository)) == (["1"], "1")
    publish(2)
    assert _champion(repository) == "2"
    publisher.withdraw_after(MODEL, 0)
    assert (repository.versions(MODEL), _champion(repository)) == ([], None)
    publish(1)
    assert _champion(repository) == "1"


def test_a_manifest_says_where_the_version_came_from(
    repository: ModelRepository, plan: ModelPlan, publisher: VersionPublisher
) -> None:
    """Commit, offsets, event times, number and digest of what was learned, and the one before."""
    for number in (1, 2):
        new = NewVersion(
            number, 60_000_000 * number, 3, 40 + number, 10 * number, {"auc": 0.5},
            Parity(9, 1e-12), b"%d" % number, examples_digest=f"d{number}",
        )  # fmt: skip
        publisher.publish(MODEL, new, {"orders/0": 70 + number, "orders/1": 5})
    first, second = (repository.load(MODEL, version)[0] for version in "12")
    assert (first.parent, second.parent) == (None, "1")
    assert dict(second.offsets) == {"orders/0": 72, "orders/1": 5}
    assert (second.trained_from_us, second.trained_until_us, second.examples) == (3, 42, 20)
    assert (second.git_commit, second.learner, second.created_by) == ("abc", "learner", ACTOR)
    assert second.fingerprint == plan.schema.fingerprint
    assert dict(second.metrics) == {"auc": 0.5}
    assert dict(second.parity) == {"rows": 9, "max_abs_diff": 1e-12}
    assert second.lineage["examples_digest"] == "sha256:d2"
    assert second.lineage["learned_before"] == "1970-01-01T00:02:00+00:00"


def test_a_model_with_a_rollout_is_not_moved(repository: ModelRepository, plan: ModelPlan) -> None:
    """Its very first version serves at once; who comes next is the evaluator's affair."""
    tried = replace(plan, rollout=RolloutPlan((0.1,), 100, 0.0, 0.01, 0))
    publisher = VersionPublisher(repository, {MODEL: tried}, {MODEL: ""}, "", lambda: 7)
    for version in (1, 2, 3):
        new = NewVersion(version, version, 0, version, 1, {}, Parity(1, 0.0), b"%d" % version)
        publisher.publish(MODEL, new, {})
    assert repository.versions(MODEL) == ["1", "2", "3"]
    assert _champion(repository) == "1"
    assert len(repository.audit(MODEL)) == 1


@pytest.mark.parametrize("kept", [0, 2, 20])
def test_old_versions_go_where_that_is_asked_for(
    repository: ModelRepository, plan: ModelPlan, kept: int
) -> None:
    """Up to what is safe the newest stay, and it is looked for what can go now and then only."""
    publisher = VersionPublisher(repository, {MODEL: plan}, {MODEL: ""}, "", lambda: 7, kept)
    left = []
    for version in range(1, 31):
        new = NewVersion(version, version, 0, version, 1, {}, Parity(1, 0.0), b"%d" % version)
        publisher.publish(MODEL, new, {})
        publisher.retain(MODEL, max(version - 3, 0))
        left.append(len(repository.versions(MODEL)))
    # Three that are not safe yet, and every second look where one in ten of the kept may be more.
    bound = {0: 30, 2: 2 + 3, 20: 20 + 3 + 1}[kept]
    assert max(left) == bound
    assert repository.versions(MODEL)[-3:] == ["28", "29", "30"]
