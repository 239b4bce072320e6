"""From labelled examples to a model with its figures: split, search, fit, measure, export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from contracts.evaluation_file import MISSING_VALUE
from contracts.plan import ModelPlan
from dataflows.learning.parity import Parity
from dataflows.training.categories import Encoding
from dataflows.training.errors import TrainingError
from dataflows.training.examples import Examples, Floats
from dataflows.training.export import checked_parity, to_onnx
from dataflows.training.learners import Fitted, Job, Learner, Rows
from dataflows.training.losses import calibration, log_loss, measure
from dataflows.training.search import Budget, Found, Problem, search
from dataflows.training.split import Shares, Split, split

VALUES_MAX = 20
_SEGMENT_ROWS_MIN = 50


@dataclass(frozen=True)
class Wishes:
    """How to train.

    Attributes:
        shares: of rows for test and validation.
        budget: of the search.
        seed: of all that is random.
        threads: that a learner may use.
    """

    shares: Shares = field(default_factory=Shares)
    budget: Budget = field(default_factory=lambda: Budget(20, 300.0))
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Trained:
    """A model that is ready to be published.

    Attributes:
        onnx: the model.
        parity: against the learner's library, on rows of the test.
        classes: in the order of its probabilities, if there are many.
        metrics: on the test rows: of the model, of the dataflow's baselines (``baseline_rate_``,
            ``baseline_last_``) and of the dataflow's own model of each moment (``online_``).
        segments: column -> value -> metrics, of the most frequent values.
        calibration: see ``losses.calibration``; empty if the model is not binary.
        importance: field of the vector -> its share, the largest first.
        found: by the search.
        split: of the examples.
        rows: name of a part -> number of examples.
        trained_from_us: time of the earliest prediction that the model learned from.
        trained_until_us: time of the latest label.
        digest: of the examples that it learned from or was measured on.
        learner: its name and version.
        wishes: how it was trained.
    """

    onnx: bytes
    parity: Parity
    classes: tuple[str, ...]
    metrics: dict[str, float]
    segments: dict[str, dict[str, dict[str, float]]]
    calibration: list[tuple[float, float, int]]
    importance: dict[str, float]
    found: Found
    split: Split
    rows: dict[str, int]
    trained_from_us: int
    trained_until_us: int
    digest: str
    learner: str
    wishes: Wishes


def train(
    plan: ModelPlan,
    examples: Examples,
    learner: Learner,
    wishes: Wishes,
    seconds: Callable[[], float],
    on_trial: Callable[[int, float], None] = lambda done, loss: None,
) -> Trained:
    """Train one model. The same examples and wishes give the same bytes, if time did not run out.

    Args:
        plan: of the model.
        examples: with labels.
        learner: that makes it.
        wishes: how.
        seconds: a clock, for the budget of the search.
        on_trial: told (trials done, best loss so far).

    Raises:
        TrainingError: there is too little to learn from, or the model cannot be exported exactly.
    """
    check_trainable(plan)
    parts = split(examples, wishes.shares)
    fit = examples.at(parts.fit)
    _check_labels(plan, examples.at(parts.train))
    classes = _classes(fit) if plan.task == "multiclass" else ()
    desk = _Desk(plan, learner, wishes, len(classes))
    problem = desk.problem(examples.at(parts.train), examples.at(parts.validation))
    found = search(learner, problem, wishes.budget, seconds, on_trial)
    encoding = desk.encoding(fit)
    rows = Rows(encoding.apply(fit.features), fit.labels)
    job = Job(plan.task, len(classes), rows, found.parameters, wishes.seed, wishes.threads)
    fitted = learner.fit(job)
    test = examples.at(parts.test)
    predicted = fitted.predict(encoding.apply(test.features))
    onnx = to_onnx(fitted, encoding, fit.features.shape[1], plan.task, classes)
    return Trained(
        onnx=onnx,
        parity=checked_parity(onnx, test.features, predicted, plan.name),
        classes=classes,
        metrics={"outcomes": float(len(test)), **_metrics(plan, test, predicted)},
        segments=_segments(plan, test, predicted),
        calibration=calibration(test.labels, predicted) if plan.task == "binary" else [],
        importance=_importance(plan, encoding, fitted),
        found=found,
        split=parts,
        rows={
            "train": len(parts.train),
            "validation": len(parts.validation),
            "fit": len(fit),
            "test": len(test),
            "all": len(examples),
        },
        trained_from_us=int(fit.times_us.min()),
        trained_until_us=int(fit.label_times_us.max()),
        digest=examples.at(np.union1d(parts.fit, parts.test)).digest,
        learner=learner.text,
        wishes=wishes,
    )


def check_trainable(plan: ModelPlan) -> None:
    """Raise TrainingError for a model that only learns in the dataflow."""
    if plan.task == "anomaly":
        raise TrainingError(
            f"model {plan.name!r} is an anomaly detector, which learns without labels in the "
            "dataflow; there is nothing to train it on"
        )


class _Desk:
    """What stays the same from one fit to the next."""

    def __init__(self, plan: ModelPlan, learner: Learner, wishes: Wishes, classes: int) -> None:
        self._plan = plan
        self._wishes = wishes
        self._classes = classes
        fields = enumerate(plan.schema.fields)
        self._categories = [place for place, field in fields if field.dtype == "string"]

    def encoding(self, rows: Examples) -> Encoding:
        """Learned from nothing but these rows."""
        return Encoding.learn(rows.features, rows.labels, self._categories, self._classes)

    def problem(self, train: Examples, validation: Examples) -> Problem:
        """For the search."""
        encoding = self.encoding(train)
        return Problem(
            self._plan.task,
            self._classes,
            Rows(encoding.apply(train.features), train.labels),
            Rows(encoding.apply(validation.features), validation.labels),
            self._wishes.seed,
            self._wishes.threads,
        )


def _check_labels(plan: ModelPlan, train: Examples) -> None:
    if plan.task != "regression" and len(np.unique(train.labels)) < 2:
        raise TrainingError(
            f"all labels that model {plan.name!r} could learn from are alike; widen --from and "
            "--until"
        )


def _classes(fit: Examples) -> tuple[str, ...]:
    """The classes known when the test begins; classes are in the order of their first labels."""
    return fit.classes[: int(fit.labels.max()) + 1]


def _metrics(plan: ModelPlan, test: Examples, predicted: Floats) -> dict[str, float]:
    """Of the model, and of what the dataflow said of the same rows."""
    found = measure(plan.task, test.labels, predicted)
    if plan.task == "multiclass":
        # These are already about the class that came true.
        if "baseline_rate" in test.said:
            found["baseline_rate_log_loss"] = log_loss(test.said["baseline_rate"])
        if "baseline_last" in test.said:
            found["baseline_last_accuracy"] = float(test.said["baseline_last"].mean())
        if "truth_score" in test.said:
            found["online_log_loss"] = log_loss(test.said["truth_score"])
        if "right" in test.said:
            found["online_accuracy"] = float(test.said["right"].mean())
        return found
    for column, prefix in (
        ("baseline_rate", "baseline_rate_"),
        ("baseline_last", "baseline_last_"),
        ("score", "online_"),
    ):
        if column in test.said:
            said = measure(plan.task, test.labels, test.said[column])
            found |= {f"{prefix}{name}": value for name, value in said.items()}
    return found


def _segments(
    plan: ModelPlan, test: Examples, predicted: Floats
) -> dict[str, dict[str, dict[str, float]]]:
    """Metrics of the most frequent values of each column, the most frequent first."""
    report: dict[str, dict[str, dict[str, float]]] = {}
    for name, texts in test.segments.items():
        shown = np.array([MISSING_VALUE if text is None else text for text in texts], dtype=str)
        values, counts = np.unique(shown, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:VALUES_MAX]
        report[name] = {}
        for place in order.tolist():
            if counts[place] < _SEGMENT_ROWS_MIN:
                break
            rows = shown == values[place]
            measured = measure(plan.task, test.labels[rows], predicted[rows])
            report[name][str(values[place])] = {"outcomes": float(counts[place]), **measured}
    return report


def _importance(plan: ModelPlan, encoding: Encoding, fitted: Fitted) -> dict[str, float]:
    names = plan.schema.names
    shares = dict.fromkeys(names, 0.0)
    for place, share in zip(encoding.sources(), fitted.importance().tolist(), strict=True):
        shares[names[place]] += share
    return dict(sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])))
