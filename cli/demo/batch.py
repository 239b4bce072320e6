"""Champion from batch training, challenger from the stream: both on the same flights, decided.

The rows are those of the second half of the year, in the order in which their labels came; the
policy is the one that `headwater evaluate` decides by.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.assignment import is_challenged
from contracts.model_channels import AuditEntry, Channels, Decision
from contracts.model_repository import ModelRepository
from contracts.model_spec import Rollout
from contracts.plan import ModelPlan, RolloutPlan
from dataflows.learning.auc import exact_auc
from dataflows.served.comparison import JudgedRow
from dataflows.served.losses import losses
from dataflows.served.rollout import RolloutPolicy, Situation
from dataflows.training.errors import TrainingError
from dataflows.training.examples import Examples, Period, read_examples
from dataflows.training.export import SCORE, run_onnx
from dataflows.training.learners import learner
from dataflows.training.publish import Publication, publish
from dataflows.training.search import Budget
from dataflows.training.split import Shares
from dataflows.training.train import Wishes, train

Floats = npt.NDArray[np.float64]
ACTOR = "demo"
_LEARNER = "lightgbm"
# The learner's own parameters do for a demo; `headwater train` searches for better ones.
_BUDGET = Budget(trials=1, seconds_max=60.0)
# A day of flights for each step: so small a difference as here is not found in fewer.
_ROLLOUT = Rollout(labels_per_step=1_000)
_MICROSECONDS = 1_000_000
_DAY_US = 86_400 * _MICROSECONDS
# Labels that came between two looks of the policy.
_LOOK_ROWS = 25


@dataclass(frozen=True)
class Trained:
    """The version that was trained.

    Attributes:
        version: its name.
        examples: what it learned from.
        auc: over predictions from ``from_us`` on.
        auc_before_departure: of these, over those of flights that had not left yet.
        seconds: reading, training and publishing took.
        onnx_parity_max_abs_diff: between LightGBM and ONNX.
    """

    version: str
    examples: int
    auc: float | None
    auc_before_departure: float | None
    seconds: float
    onnx_parity_max_abs_diff: float


@dataclass(frozen=True)
class Decided:
    """How the rollout ended.

    Attributes:
        champion: the version that had to be beaten.
        challenger: the one that tried.
        decision: ``promote``, ``rollback``, or ``none`` if the flights did not suffice.
        reason: in the words of the policy.
        steps: shares that the challenger was given.
        labels: of the challenger, known by then.
        days: of event time from its first share to the decision.
    """

    champion: str
    challenger: str
    decision: str
    reason: str
    steps: tuple[float, ...]
    labels: int
    days: float


@dataclass(frozen=True)
class BatchReport:
    """What came of it; ``skipped`` says why nothing did."""

    trained: Trained | None = None
    rollout: Decided | None = None
    skipped: str = ""

    def to_json(self) -> dict[str, Any]:
        """For ``report.json``."""
        return asdict(self)


def compare_batch_with_online(
    plan: ModelPlan,
    examples_dir: Path,
    models: ModelRepository,
    from_us: int,
    left_early: frozenset[str],
    wall_us: Callable[[], int],
) -> BatchReport:
    """Train on predictions before ``from_us``, and let the rest decide; changes the channels.

    Args:
        plan: of the model.
        examples_dir: where its examples and outcomes are.
        models: gets the new version, and has the dataflow's.
        from_us: the test begins here, or in the middle if there is too little on one side of it.
        left_early: keys of flights whose departure was known at the prediction.
        wall_us: a clock, for the audit.
    """
    begun = time.monotonic()
    try:
        chosen = learner(_LEARNER)
        examples = read_examples(plan, examples_dir / plan.name, Period())
        shares = Shares(test_from_us=_test_from(examples, from_us))
        wishes = Wishes(shares, _BUDGET)
        trained = train(plan, examples, chosen, wishes, time.monotonic)
    except TrainingError as error:
        return BatchReport(skipped=str(error))
    publication = Publication(ACTOR, "", "champion", wall_us())
    manifest = publish(models, plan, trained, publication)
    later = examples.at(examples.times_us >= trained.split.test_from_us)
    scores = run_onnx(trained.onnx, later.features, SCORE)
    waiting = np.array([key not in left_early for key in later.keys], dtype=np.bool_)
    truths = later.labels > 0.5
    report = Trained(
        version=manifest.version,
        examples=manifest.examples,
        auc=exact_auc(truths, scores),
        auc_before_departure=exact_auc(truths[waiting], scores[waiting]),
        seconds=round(time.monotonic() - begun, 1),
        onnx_parity_max_abs_diff=trained.parity.max_abs_diff,
    )
    return BatchReport(report, roll_out(plan, models, later, scores, wall_us))


def roll_out(
    plan: ModelPlan,
    models: ModelRepository,
    rows: Examples,
    champion_scores: Floats,
    wall_us: Callable[[], int],
) -> Decided | None:
    """The dataflow's newest version against the champion; None if there is none.

    The challenger's scores are those that the dataflow made when the predictions were due: of the
    version that was the newest one at that moment.
    """
    champion = models.channels(plan.name).champion
    versions = models.versions(plan.name)
    assert champion is not None
    if versions[-1] == champion:
        return None
    rollout = plan.rollout or _rollout_plan(_ROLLOUT)
    policy = RolloutPolicy(plan.name, rollout, plan.task)
    audit: list[AuditEntry] = []
    made: list[Decision] = []
    nothing = np.empty(0)
    said = {
        champion: losses(plan.task, rows.labels, champion_scores, nothing),
        versions[-1]: losses(plan.task, rows.labels, rows.said["score"], nothing),
    }
    order = np.argsort(rows.label_times_us, kind="stable")
    begun_us = int(rows.label_times_us[order[0]])
    now_us = begun_us
    for start in range(0, len(order), _LOOK_ROWS):
        situation = Situation(models.channels(plan.name), (champion, versions[-1]), audit)
        decision = policy.look(situation, now_us, wall_us())
        if isinstance(decision, Decision):
            if not models.decide(plan.name, decision):
                break
            made.append(decision)
            audit.append(decision.entry)
            if decision.action in ("promote", "rollback"):
                break
        places = order[start : start + _LOOK_ROWS]
        channels = models.channels(plan.name)
        policy.add(_judged(places, rows, said, channels))
        now_us = int(rows.label_times_us[places[-1]])
    return _decided(champion, versions[-1], made, now_us - begun_us)


def _judged(
    places: npt.NDArray[np.int64], rows: Examples, said: dict[str, Floats], channels: Channels
) -> list[JudgedRow]:
    """Both scores of each row, and which of them the caller would have got."""
    judged = []
    for place in places.tolist():
        key = rows.keys[place]
        challenged = is_challenged(channels.salt, key, channels.challenger_share)
        assigned = "challenger" if challenged else "champion"
        judged += [
            JudgedRow(
                version, place, assigned, (version == channels.challenger) == challenged, loss
            )
            for version, loss in ((name, float(found[place])) for name, found in said.items())
        ]
    return judged


def _decided(champion: str, challenger: str, made: list[Decision], took_us: int) -> Decided:
    last = made[-1] if made else None
    is_over = last is not None and last.action in ("promote", "rollback")
    return Decided(
        champion=champion,
        challenger=challenger,
        decision=last.action if last is not None and is_over else "none",
        reason=last.reason if last is not None else "",
        steps=tuple(d.new.challenger_share for d in made if d.action in ("set", "weigh")),
        labels=int(last.figures.get("labels", 0)) if last is not None else 0,
        days=round(took_us / _DAY_US, 2),
    )


def _test_from(examples: Examples, wanted_us: int) -> int:
    """That moment if enough flights are on both sides of it, else the one in the middle."""
    before = float(np.mean(examples.times_us < wanted_us))
    if 0.2 <= before <= 0.8:
        return wanted_us
    return int(examples.times_us[len(examples) // 2])


def _rollout_plan(spec: Rollout) -> RolloutPlan:
    rest_us = int(spec.rest.total_seconds() * _MICROSECONDS)
    return RolloutPlan(
        tuple(spec.shares), spec.labels_per_step, spec.margin, spec.false_alarm, rest_us
    )
