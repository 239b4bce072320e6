"""The policy of rollouts, on made-up rows and a real model repository."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.model_channels import AuditEntry, Channels, Decision
from contracts.plan import RolloutPlan
from dataflows.served.comparison import SILENT_ROWS, JudgedRow
from dataflows.served.rollout import RolloutPolicy, Situation, next_challenger
from tests.served.world import HOUR_US, MODEL, ROLLOUT, World


class Trial:
    """A policy and the repository that it decides about."""

    def __init__(self, folder: Path, plan: RolloutPlan = ROLLOUT, task: Any = "binary") -> None:
        self.world = World(folder)
        self.plan, self.task = plan, task
        self.policy = RolloutPolicy(MODEL, plan, task)
        self.clock_us = 0
        self._at_us = 100
        self._pair = 0

    @property
    def now(self) -> Situation:
        """What the repository says."""
        repository = self.world.repository
        return Situation(
            repository.channels(MODEL), repository.versions(MODEL), repository.audit(MODEL)
        )

    @property
    def channels(self) -> Channels:
        """The channels."""
        return self.now.channels

    def look(self) -> Decision | AuditEntry | None:
        """Look once, and do what is said."""
        self._at_us += 1
        found = self.policy.look(self.now, self.clock_us, self._at_us)
        if isinstance(found, Decision):
            assert self.world.repository.decide(MODEL, found)
        elif found is not None:
            self.world.repository.remark(MODEL, found)
        return found

    def action(self) -> str | None:
        """Look once; the action."""
        found = self.look()
        return None if found is None else found.action

    def next_pair(self) -> int:
        """The number of a row that was not there yet."""
        self._pair += 1
        return self._pair

    def add(self, count: int, worse: float, *, is_paired: bool = True) -> None:
        """Rows of champion and challenger, the challenger's loss larger by so much."""
        generator = np.random.default_rng(self._pair)
        comparison = self.policy.comparison
        assert comparison is not None
        rows = []
        for _ in range(count):
            self._pair += 1
            loss = float(generator.exponential(0.4))
            own = loss if is_paired else float(generator.exponential(0.4))
            rows.append(
                JudgedRow(comparison.champion, self._pair, "champion", True, loss, self._pair)
            )
            pair = self._pair if is_paired else -self._pair
            assigned = "champion" if is_paired else "challenger"
            rows.append(
                JudgedRow(
                    comparison.challenger, pair, assigned, not is_paired, own + worse, self._pair
                )
            )
        self.policy.add(rows)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """A champion, and a version that is new."""
    one = Trial(tmp_path)
    one.world.publish("1", "2")
    return one


def test_a_good_challenger_takes_all_steps(trial: Trial) -> None:
    """The first share, the next after so many labels, then all; each step is told with figures."""
    assert trial.action() == "set"
    assert (trial.channels.challenger, trial.channels.challenger_share) == ("2", 0.1)
    trial.add(99, 0.0)
    assert trial.action() is None
    trial.add(1, 0.0)
    assert trial.action() == "weigh"
    assert trial.channels.challenger_share == 0.5
    assert trial.action() is None
    trial.add(100, -0.1)
    assert trial.action() == "promote"
    assert trial.channels == Channels("2", None, None, {}, "fraud/2")
    assert trial.action() is None
    last = trial.now.audit[-1]
    assert (last.actor, last.channel, last.version, last.previous) == (
        "evaluator",
        "champion",
        "2",
        "1",
    )
    assert last.figures["labels"] == 200
    assert last.figures["champion_loss"] > last.figures["challenger_loss"]
    assert last.share == 0.0


@pytest.mark.parametrize("is_paired", [True, False])
def test_a_bad_challenger_goes_and_stays_away(trial: Trial, *, is_paired: bool) -> None:
    """Once it is found to be worse it is rolled back at the next look, and never tried again."""
    trial.look()
    trial.add(90, 1.0, is_paired=is_paired)
    assert trial.action() == "rollback"
    assert trial.channels.challenger is None
    assert trial.channels.challenger_share == 0.0
    assert trial.channels.champion == "1"
    last = trial.now.audit[-1]
    assert (last.version, last.previous, last.share) == (None, "2", 0.0)
    difference = last.figures["challenger_loss"] - last.figures["champion_loss"]
    assert difference == pytest.approx(1.0, abs=0.2)
    assert last.figures["evidence_highest"] > last.figures["evidence_needed"]
    assert "worse than 1" in last.reason
    trial.clock_us += 10 * HOUR_US
    assert trial.action() is None


def test_rows_that_callers_asked_the_challenger_for_end_no_step(trial: Trial) -> None:
    """Nothing is compared on them, so no version is promoted for having been tried out."""
    trial.look()
    trial.policy.add([JudgedRow("2", -number, "", True, 5.0, number) for number in range(1, 501)])
    assert trial.action() is None
    comparison = trial.policy.comparison
    assert comparison is not None
    assert comparison.labels == 0


def test_a_challenger_that_answers_nobody_goes(trial: Trial) -> None:
    """Where the champion stands in for it all the time, the rollout ends and says why."""
    trial.look()
    for _ in range(SILENT_ROWS - 1):
        trial.policy.add([JudgedRow("1", trial.next_pair(), "challenger", True, 0.3)])
    assert trial.action() is None
    trial.policy.add([JudgedRow("1", trial.next_pair(), "challenger", True, 0.3)])
    decision = trial.look()
    assert isinstance(decision, Decision)
    assert (decision.action, trial.channels.challenger) == ("rollback", None)
    assert "answered nobody" in decision.reason


def test_one_score_is_no_silence(trial: Trial) -> None:
    """A challenger of which there is a score is judged by it."""
    trial.look()
    trial.policy.add([JudgedRow("2", trial.next_pair(), "challenger", True, 0.3)])
    for _ in range(SILENT_ROWS):
        trial.policy.add([JudgedRow("1", trial.next_pair(), "challenger", True, 0.3)])
    assert trial.action() is None


def test_who_is_always_harder_to_tell_is_no_reason(trial: Trial) -> None:
    """Where rows have one score, each entity of the challenger's counts once."""
    trial.look()
    rows = []
    for number in range(200):
        rows.append(JudgedRow("1", number, "champion", True, 0.2, number))
        rows.append(JudgedRow("2", -number, "challenger", True, 2.0, number % 5))
    trial.policy.add(rows)
    assert trial.action() == "weigh"


def test_after_a_rollback_nothing_is_tried_for_a_while(trial: Trial) -> None:
    """A newer version waits until the rest is over, by event time."""
    trial.clock_us = 5 * HOUR_US
    trial.look()
    trial.add(90, 1.0)
    trial.look()
    trial.world.publish("3", "4")
    trial.clock_us += HOUR_US - 1
    assert trial.action() is None
    trial.clock_us += 1
    assert trial.action() == "set"
    assert trial.channels.challenger == "4"


def test_what_a_person_does_stands(trial: Trial) -> None:
    """A channel set by hand ends the rollout, which is told; a later version begins another."""
    trial.look()
    trial.world.repository.set_share(MODEL, 0.9, None, "sure", "ann", 50)
    assert trial.action() == "stop"
    told = trial.now.audit[-1]
    assert (told.actor, told.previous) == ("evaluator", "2")
    assert "ann" in told.reason
    before = trial.channels
    assert trial.action() is None
    trial.world.repository.set_channel(MODEL, "challenger", None, "enough", "ann", 60)
    assert trial.action() is None
    trial.world.publish("3")
    assert trial.action() == "set"
    assert before.challenger_share == 0.9
    assert trial.channels.challenger == "3"


def test_a_shadow_is_no_business_of_a_rollout(trial: Trial) -> None:
    """A shadow may be set and stays through all steps."""
    trial.look()
    trial.world.repository.set_channel(MODEL, "shadow", "1", "watch", "ann", 50)
    for expected in ("weigh", "promote"):
        trial.add(100, 0.0)
        assert trial.action() == expected
        assert trial.channels.shadow == "1"


def test_a_challenger_of_somebody_else_is_left_alone(trial: Trial) -> None:
    """Who is tried by hand is not judged, and nobody else is tried meanwhile."""
    trial.world.repository.set_challenger(MODEL, "2", 0.3, "s", "try", "ann", 5)
    before = trial.channels
    assert trial.action() is None
    assert trial.channels == before
    assert trial.policy.step is None


def test_a_decision_that_comes_too_late_gives_way(trial: Trial) -> None:
    """Whoever was faster is told of in the audit file, and stands."""
    found = trial.policy.look(trial.now, 0, 7)
    assert isinstance(found, Decision)
    trial.world.repository.set_channel(MODEL, "challenger", "1", "mine", "ann", 6)
    assert not trial.world.repository.decide(MODEL, found)
    told = trial.policy.give_way(trial.now, 8, found)
    assert "ann" in told.reason
    assert told.previous == "2"
    assert trial.action() is None


def test_state_that_was_lost_is_no_end(trial: Trial) -> None:
    """A policy that knows nothing goes on with the challenger that it made one, from its step."""
    trial.look()
    trial.add(100, 0.0)
    trial.look()
    trial.policy = RolloutPolicy(MODEL, ROLLOUT, "binary")
    assert trial.action() is None
    assert trial.policy.step == 1
    trial.add(100, 0.0)
    assert trial.action() == "promote"


def test_saved_and_loaded_at_each_look(trial: Trial) -> None:
    """A policy that is saved and loaded decides as one that was not."""
    found = []
    for _ in range(30):
        found.append(trial.action())
        if found[-1] == "promote":
            break
        trial.add(10, 0.0)
        data = trial.policy.dump()
        trial.policy = RolloutPolicy.load(MODEL, ROLLOUT, "binary", data)
        assert trial.policy.dump() == data
    assert [action for action in found if action] == ["set", "weigh", "promote"]
    assert len(found) == 21


def test_regression_is_compared_in_the_champions_errors(tmp_path: Path) -> None:
    """Twice the squared error is found whatever the scale of the numbers is."""
    labels = []
    for scale in (1e-9, 1.0, 1e9):
        trial = Trial(tmp_path / f"{scale}", task="regression")
        trial.world.publish("1", "2")
        trial.look()
        generator = np.random.default_rng(5)
        for pair in range(90):
            errors = scale * generator.normal(size=2) ** 2
            trial.policy.add(
                [
                    JudgedRow("1", pair, "champion", True, float(errors[0])),
                    JudgedRow("2", pair, "champion", False, float(errors[0] + errors[1] + scale)),
                ]
            )
            if trial.action() == "rollback":
                labels.append(pair)
                break
    assert len(labels) == 3
    assert labels[0] == labels[1] == labels[2]


def test_who_is_next() -> None:
    """The newest that nobody tried, newer than the champions of its kind; batch training first."""

    def asked(versions: str, champion: str, *audit: AuditEntry, passed: str = "") -> str | None:
        now = Situation(Channels(champion), versions.split(), audit)
        return next_challenger(now, passed.split())

    def entry(channel: str, version: str | None, previous: str | None = None) -> AuditEntry:
        return AuditEntry(0, "set", channel, version, previous, "", "x")

    assert asked("1 2 3", "1") == "3"
    assert asked("1 2 3", "3") is None
    assert asked("1 2 3", "1", entry("challenger", "3")) == "2"
    assert asked("1 2 3", "1", entry("challenger", None, "3"), passed="2") is None
    # Somebody rolled back from 3 to 1: neither 2 nor 3 is newer than all champions.
    assert asked("1 2 3", "1", entry("champion", "3")) is None
    assert asked("b1 b2 1 2", "1") == "b2"
    assert asked("b1 1 2 3", "b1", entry("champion", "2")) == "3"
    assert asked("b1 1 2", "b1", entry("champion", "2")) is None
    assert asked("b1 b2 1", "b2") == "1"


def test_margin_lets_a_little_pass(tmp_path: Path) -> None:
    """A challenger that is worse by less than the margin is promoted."""
    for margin, expected in ((0.5, "promote"), (0.0, "rollback")):
        plan = replace(ROLLOUT, margin=margin)
        trial = Trial(tmp_path / str(margin), plan)
        trial.world.publish("1", "2")
        trial.look()
        actions: list[str | None] = []
        while not actions or actions[-1] not in ("promote", "rollback"):
            trial.add(50, 0.4)
            actions.append(trial.action())
        assert actions[-1] == expected
