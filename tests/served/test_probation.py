"""A promoted version on probation: held against the champion before, for a while."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contracts.model_channels import Channels, Decision
from dataflows.served.comparison import JudgedRow
from dataflows.served.rollout import RolloutPolicy, abandoned
from tests.served.test_rollout import Trial
from tests.served.world import HOUR_US, MODEL, ROLLOUT


@pytest.fixture
def promoted(tmp_path: Path) -> Trial:
    """Version 2 was promoted and is on probation for 50 labelled scores; 3 is new."""
    one = Trial(tmp_path, replace(ROLLOUT, probation_labels=50))
    one.world.publish("1", "2")
    one.look()
    for _ in ROLLOUT.shares:
        one.add(100, 0.0)
        one.look()
    assert one.now.audit[-1].action == "promote"
    one.world.publish("3")
    return one


def test_a_promoted_version_is_on_probation(promoted: Trial) -> None:
    """The champion before stays beside it; what is newer waits until so many labels have come."""
    beside = Channels("2", "1", None, {"challenger": 0.1}, "fraud/2/probation")
    assert promoted.channels == beside
    assert promoted.policy.step == 2
    assert (promoted.now.audit[-1].previous, promoted.now.audit[-1].share) == ("1", 0.1)
    promoted.add(49, 0.0)
    assert promoted.action() is None
    promoted.add(1, 0.0)
    assert promoted.action() == "set"
    assert promoted.channels == Channels("2", None, None, {}, "fraud/2/probation")
    last = promoted.now.audit[-1]
    assert "2 stays: not worse than 1 after 50 labelled scores on probation" in last.reason
    assert (last.figures["probation"], last.figures["paired_labels"]) == (1.0, 50.0)
    assert promoted.action() == "set"
    assert promoted.channels.challenger == "3"


def test_a_champion_that_turns_bad_on_probation_goes(promoted: Trial) -> None:
    """At the next look the champion before is champion again, alone, and 2 never comes back."""
    promoted.clock_us = 5 * HOUR_US
    promoted.add(40, 1.0)
    assert promoted.action() == "rollback"
    assert promoted.channels == Channels("1", None, None, {}, "fraud/2/probation")
    last = promoted.now.audit[-1]
    assert (last.channel, last.version, last.previous, last.share) == ("champion", "1", "2", 0.0)
    assert "version 2 is worse than 1: mean loss +1.0" in last.reason
    assert last.figures["champion_loss"] - last.figures["challenger_loss"] == pytest.approx(1.0)
    promoted.clock_us += HOUR_US - 1
    assert promoted.action() is None
    promoted.clock_us += 1
    assert promoted.action() == "set"
    assert promoted.channels.challenger == "3"


def test_rows_with_one_score_end_a_probation_and_decide_nothing(promoted: Trial) -> None:
    """Who answers few rows is no measure of who answers most: only rows with both scores are."""
    rows = [JudgedRow("2", -number, "champion", True, 3.0, number) for number in range(1, 50)]
    rows += [JudgedRow("1", number, "challenger", True, 0.1, number) for number in range(1, 50)]
    rows += [JudgedRow("2", -number, "challenger", True, 3.0, number) for number in range(50, 51)]
    promoted.policy.add(rows)
    assert promoted.action() == "set"
    assert promoted.channels.champion == "2"


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_probation_survives_its_evaluator(promoted: Trial, *, is_lost: bool) -> None:
    """Saved and loaded it goes on; where the state was lost it begins anew."""
    promoted.add(30, 0.0)
    plan, data = promoted.plan, promoted.policy.dump()
    promoted.policy = RolloutPolicy.load(MODEL, plan, "binary", data)
    assert promoted.policy.dump() == data
    if is_lost:
        promoted.policy = RolloutPolicy(MODEL, plan, "binary")
    assert promoted.action() is None
    promoted.add(20, 0.0)
    if is_lost:
        assert promoted.action() is None
        promoted.add(30, 0.0)
    assert promoted.action() == "set"
    assert promoted.channels.challenger is None


def test_who_takes_a_hand_in_a_probation_ends_it(promoted: Trial) -> None:
    """What a person does stands, and the audit says whose probation it was."""
    found = promoted.policy.dump()
    promoted.world.repository.rollback(MODEL, "no", "ann", 60)
    assert promoted.action() == "stop"
    assert promoted.channels == Channels("1", None, None, {}, "fraud/2/probation")
    told = promoted.now.audit[-1]
    assert (told.previous, told.actor) == ("2", "evaluator")
    assert promoted.action() is None
    late = RolloutPolicy.load(MODEL, promoted.plan, "binary", found)
    promoted.policy = late
    promoted.add(50, 0.0)
    before = replace(promoted.now, channels=Channels.from_json(found["underway"]["channels"]))
    decision = late.look(before, 0, 99)
    assert isinstance(decision, Decision)
    assert late.give_way(promoted.now, 100, decision).previous == "2"


def test_a_probation_ends_with_its_rollout(promoted: Trial) -> None:
    """Without a rollout in the definitions nobody is held against anybody any more."""
    decision = abandoned(promoted.now, 70)
    assert decision is not None
    assert promoted.world.repository.decide(MODEL, decision)
    assert (promoted.channels.champion, promoted.channels.challenger) == ("2", None)
