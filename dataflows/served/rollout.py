"""What is to happen with a model's channels next; decides, and changes nothing itself.

A version that nobody tried yet becomes challenger with the first share of the requests. It gets
the next share when it has so many labelled scores more, is promoted after the last one, and is
rolled back as soon as the test says that it is worse. Promoted, it is on probation: the champion
before is challenger with the first share, so that rows go on to be scored by both, and becomes
champion again if the test says so. If a person changes who answers, that rollout is over: what
people do stands, until a version comes that was not there then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from contracts.manifest import learned_number, version_order
from contracts.model_channels import AuditEntry, Channels, Decision, is_same_rollout
from contracts.model_spec import Task
from contracts.plan import RolloutPlan
from dataflows.served.comparison import SILENT_ROWS, Comparison, JudgedRow

ACTOR = "evaluator"
LEARNER = "dataflow"
_NEVER_US = -(2**62)


@dataclass(frozen=True)
class Situation:
    """What the model repository says just now.

    Attributes:
        channels: as they are.
        versions: all that there are.
        audit: all changes so far, oldest first.
    """

    channels: Channels
    versions: Sequence[str]
    audit: Sequence[AuditEntry]


@dataclass(frozen=True)
class _Underway:
    """A rollout.

    Attributes:
        step: number of the share it has, from 0; on probation how many shares there are.
        labels: how many labelled scores the version had when it got that share.
        channels: as our last decision left them.
        comparison: of the version with the champion before it, whoever is champion now.
    """

    step: int
    labels: int
    channels: Channels
    comparison: Comparison

    @property
    def is_probation(self) -> bool:
        """Whether the version was promoted already."""
        return self.channels.champion == self.comparison.challenger


class RolloutPolicy:
    """The rollouts of one model, one after the other. Pure logic."""

    def __init__(self, model: str, plan: RolloutPlan, task: Task) -> None:
        self._model, self._plan, self._task = model, plan, task
        self._underway: _Underway | None = None
        self._rest_until_us = _NEVER_US
        self._passed_over: frozenset[str] = frozenset()

    @property
    def step(self) -> int | None:
        """Number of the share that the challenger has, from 0; None without a rollout.

        On probation it is the number of shares.
        """
        return None if self._underway is None else self._underway.step

    @property
    def comparison(self) -> Comparison | None:
        """The comparison under way."""
        return None if self._underway is None else self._underway.comparison

    def add(self, rows: list[JudgedRow]) -> None:
        """Take in rows whose labels came, in the order in which they became known."""
        if self._underway is not None:
            self._underway.comparison.add(rows)

    def look(self, now: Situation, clock_us: int, at_us: int) -> Decision | AuditEntry | None:
        """What is to be done now, at most one thing at a time.

        A Decision is to be made (``ModelRepository.decide``); if that says no, call ``give_way``.
        An AuditEntry is only to be put down: a rollout is over, for somebody changed the channels.

        Args:
            now: the repository.
            clock_us: event time up to which labels are known.
            at_us: the caller's clock, for the audit file.
        """
        underway = self._underway
        if underway is None:
            return self._begin(now, clock_us, at_us)
        if not is_same_rollout(now.channels, underway.channels):
            return self.give_way(now, at_us)
        if underway.comparison.is_worse:
            return self._roll_back(underway, clock_us, at_us, _worse(underway))
        if underway.comparison.is_silent and not underway.is_probation:
            silent = (
                f"version {underway.comparison.challenger} answered nobody: the champion stood in "
                f"for it {SILENT_ROWS} times and more; the scorer's log says why"
            )
            return self._roll_back(underway, clock_us, at_us, silent)
        plan, labels = self._plan, underway.comparison.labels - underway.labels
        if underway.is_probation:
            return None if labels < plan.probation_labels else self._acquit(underway, at_us)
        return None if labels < plan.labels_per_step else self._go_on(underway, at_us)

    def give_way(self, now: Situation, at_us: int, refused: Decision | None = None) -> AuditEntry:
        """End the rollout, as somebody else changed the channels; what to put down of it.

        ``refused`` is the decision that came too late, if there was one.
        """
        comparison = self.comparison
        challenger = None if comparison is None else comparison.challenger
        if challenger is None and refused is not None:
            challenger = refused.expected.challenger or refused.new.challenger
            if "probation" in refused.figures:
                challenger = refused.expected.champion
        figures = {} if comparison is None else comparison.figures()
        others = [entry for entry in now.audit if entry.actor != ACTOR]
        who = others[-1].actor if others else "somebody"
        self._underway = None
        self._passed_over = frozenset(now.versions)
        return AuditEntry(
            at_us,
            "stop",
            "challenger",
            now.channels.challenger,
            challenger,
            f"{who} changed the channels: the rollout of version {challenger} is over, the next "
            "one waits for a new version",
            ACTOR,
            figures=figures,
        )

    def _begin(self, now: Situation, clock_us: int, at_us: int) -> Decision | None:
        champion = now.channels.champion
        if champion is None:
            return None
        if now.channels.challenger is not None:
            self._adopt(now, champion, now.channels.challenger)
            return None
        if clock_us < self._rest_until_us:
            return None
        version = next_challenger(now, self._passed_over)
        if version is None:
            return None
        share = self._plan.shares[0]
        channels = now.channels.pointing("challenger", version)
        # Another salt each time: not always the same ones get what is new.
        channels = channels.sharing(share, f"{self._model}/{version}")
        comparison = Comparison(self._plan, self._task, champion, version)
        self._underway = _Underway(0, 0, channels, comparison)
        reason = f"version {version} is new: step 1 of {len(self._plan.shares)}, share {share:g}"
        return Decision("set", now.channels, channels, reason, ACTOR, at_us, {"step": 1.0})

    def _adopt(self, now: Situation, champion: str, challenger: str) -> None:
        """Go on with a challenger that we made one, if our state was lost since.

        One that is not ours is somebody's own affair.
        """
        last = now.audit[-1] if now.audit else None
        if last is None or last.actor != ACTOR:
            return
        if last.action == "promote" and (last.version, last.previous) == (champion, challenger):
            self._underway = self._probation(now.channels)
            return
        if last.action not in ("set", "weigh"):
            return
        share, shares = now.channels.challenger_share, self._plan.shares
        step = shares.index(share) if share in shares else 0
        comparison = Comparison(self._plan, self._task, champion, challenger)
        self._underway = _Underway(step, 0, now.channels, comparison)

    def _roll_back(self, underway: _Underway, clock_us: int, at_us: int, reason: str) -> Decision:
        old, figures = underway.channels, _figures(underway)
        self._underway = None
        self._rest_until_us = clock_us + self._plan.rest_us
        if underway.is_probation:
            new = old.promoting(underway.comparison.champion)
        else:
            new = old.pointing("challenger", None)
        return Decision("rollback", old, new, reason, ACTOR, at_us, figures)

    def _go_on(self, underway: _Underway, at_us: int) -> Decision:
        comparison, shares = underway.comparison, self._plan.shares
        old, step, figures = underway.channels, underway.step + 1, _figures(underway)
        found = f"not worse than {comparison.champion} after {comparison.labels} labelled scores"
        if step == len(shares):
            reason = f"version {comparison.challenger} is {found}"
            new = old.promoting(comparison.challenger)
            self._underway = None
            if self._plan.probation_labels:
                # Others than those who had the new version first.
                salt = f"{self._model}/{comparison.challenger}/probation"
                new = new.pointing("challenger", comparison.champion).sharing(shares[0], salt)
                self._underway = self._probation(new)
                reason += f"; {comparison.champion} stays beside it, share {shares[0]:g}"
            return Decision("promote", old, new, reason, ACTOR, at_us, figures)
        new = old.sharing(shares[step])
        self._underway = _Underway(step, comparison.labels, new, comparison)
        reason = (
            f"version {comparison.challenger} is {found}: step {step + 1} of {len(shares)}, share "
            f"{shares[step]:g}"
        )
        return Decision("weigh", old, new, reason, ACTOR, at_us, figures)

    def _probation(self, channels: Channels) -> _Underway:
        """The champion is held against its challenger, who was champion before it."""
        assert channels.champion is not None
        assert channels.challenger is not None
        # The roles stay as they were: found can only be that the new version is worse. Rows with
        # one score do not count, for who answers few rows is no measure of who answers most.
        comparison = Comparison(self._plan, self._task, channels.challenger, channels.champion)
        return _Underway(len(self._plan.shares), 0, channels, comparison)

    def _acquit(self, underway: _Underway, at_us: int) -> Decision:
        comparison, old, figures = underway.comparison, underway.channels, _figures(underway)
        self._underway = None
        reason = (
            f"version {comparison.challenger} stays: not worse than {comparison.champion} after "
            f"{comparison.labels} labelled scores on probation"
        )
        new = old.pointing("challenger", None)
        return Decision("set", old, new, reason, ACTOR, at_us, figures)

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data; ``load`` is its inverse."""
        underway = self._underway
        return {
            "underway": None
            if underway is None
            else {
                "step": underway.step,
                "labels": underway.labels,
                "channels": asdict(underway.channels),
                "comparison": underway.comparison.dump(),
            },
            "rest_until_us": self._rest_until_us,
            "passed_over": sorted(self._passed_over),
        }

    @classmethod
    def load(cls, model: str, plan: RolloutPlan, task: Task, data: dict[str, Any]) -> RolloutPolicy:
        """A policy as it was when ``dump`` was called; a plan with fewer steps ends at its last."""
        policy = cls(model, plan, task)
        if data["underway"] is not None:
            saved = data["underway"]
            underway = _Underway(
                saved["step"],
                saved["labels"],
                Channels.from_json(saved["channels"]),
                Comparison.load(plan, task, saved["comparison"]),
            )
            steps = len(plan.shares)
            step = steps if underway.is_probation else min(underway.step, steps - 1)
            policy._underway = replace(underway, step=step)
        policy._rest_until_us = data["rest_until_us"]
        policy._passed_over = frozenset(data["passed_over"])
        return policy


def abandoned(now: Situation, at_us: int) -> Decision | None:
    """What ends a rollout of ours for which there is no policy any more; None if there is none.

    A challenger that somebody else set, or left where it is, stays.
    """
    challenger, ours = now.channels.challenger, False
    for entry in now.audit:
        if entry.channel == "challenger":
            ours = entry.actor == ACTOR and entry.action in ("set", "weigh")
        elif entry.actor == ACTOR and entry.action == "promote":
            # The champion before may be on beside it.
            ours = True
        else:
            # A learner's versions follow one another, whoever tries what.
            ours = ours and entry.actor == LEARNER
    if challenger is None or not ours:
        return None
    share = now.channels.challenger_share
    reason = (
        f"the model has no rollout in its definitions any more: version {challenger} gives its "
        f"share of {share:g} back"
    )
    new = now.channels.pointing("challenger", None)
    return Decision("rollback", now.channels, new, reason, ACTOR, at_us, {"share_before": share})


def next_challenger(now: Situation, passed_over: Collection[str]) -> str | None:
    """The version to try next; None if there is none.

    One of batch training goes first: somebody asked for it. Each must be newer than the champions
    of its kind, and none is tried twice, whoever tried it.
    """
    champions = {e.version for e in now.audit if e.channel == "champion"}
    champions.add(now.channels.champion)
    tried = {e.version for e in now.audit if e.channel == "challenger"}
    tried |= {e.previous for e in now.audit if e.channel == "challenger"}
    known = [version for version in champions if version is not None]
    left = []
    for version in now.versions:
        same_kind = [v for v in known if (learned_number(v) is None) == _is_batch(version)]
        newest = max((version_order(v) for v in same_kind), default=None)
        if newest is not None and version_order(version) <= newest:
            continue
        if version not in tried and version not in passed_over:
            left.append(version)
    batch = [version for version in left if _is_batch(version)]
    return max(batch or left, key=version_order, default=None)


def _worse(underway: _Underway) -> str:
    comparison, figures = underway.comparison, underway.comparison.figures()
    worse = figures.get("challenger_loss", 0.0) - figures.get("champion_loss", 0.0)
    return (
        f"version {comparison.challenger} is worse than {comparison.champion}: mean loss "
        f"{worse:+.4f} after {comparison.labels} labelled scores, evidence "
        f"{figures['evidence_highest']:.3g} to 1 where {figures['evidence_needed']:.3g} is "
        "enough"
    )


def _figures(underway: _Underway) -> dict[str, float]:
    figures = underway.comparison.figures()
    if underway.is_probation:
        figures["probation"] = 1.0
        if "champion_loss" in figures:
            # By the channels of now: the version that was challenger is champion.
            own, former = figures["challenger_loss"], figures["champion_loss"]
            figures |= {"champion_loss": own, "challenger_loss": former}
    figures["step"] = underway.step + 1.0
    figures["share_before"] = underway.channels.challenger_share
    return figures


def _is_batch(version: str) -> bool:
    return learned_number(version) is None
