"""What a model's label, learner, segments and rollout say, checked against each other."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from contracts.category import text_of
from contracts.feature_schema import FeatureSchema
from contracts.model_spec import Label, Model, Rollout, Task
from contracts.plan import RolloutPlan, Topic
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.topics import LONGEST, columns_of
from dataflows.learning.label_expression import LabelExpressionError, compile_label
from dataflows.river_onnx import Role

_MICROSECOND = timedelta(microseconds=1)
_TASKS: dict[Role, tuple[Task, ...]] = {
    "classifier": ("binary", "multiclass"),
    "regressor": ("regression",),
    "anomaly": ("anomaly",),
}
_NUMBERS = ("float64", "int64", "bool")
_TEXTS = ("string", "int64", "bool")


def task_of(model: Model, role: Role, label: Topic | None, where: str) -> Task:
    """The model's task: what it says, or what follows from learner and label.

    Raises:
        DefinitionError: the learner cannot do it, or there is no label to learn from.
    """
    possible = _TASKS.get(role)
    if possible is None:
        raise DefinitionError(f"{where}: its learner is a {role}, and must be a model")
    task = model.task
    if task is None:
        is_text = (
            model.label is not None
            and label is not None
            and model.label.value in columns_of(label)
            and columns_of(label)[model.label.value].dtype == "string"
        )
        task = "multiclass" if role == "classifier" and is_text else possible[0]
    if task not in possible:
        raise DefinitionError(
            f"{where}: task {task!r} and a learner that is a {role} do not go together; such a "
            f"learner can do: {', '.join(possible)}"
        )
    if model.label is None and task != "anomaly":
        raise DefinitionError(f"{where} has no label; only an anomaly detector learns without one")
    return task


def check_label(label: Label, task: Task, topic: Topic, where: str) -> None:
    """Raise DefinitionError unless the label's value can be had from its topic."""
    columns = columns_of(topic)
    if task == "multiclass":
        found = columns.get(label.value)
        if found is None or found.dtype not in _TEXTS:
            raise DefinitionError(
                f"{where}: the label of a multi-class model must be the name of a string, integer "
                f"or boolean column of topic {topic.name!r}, not {label.value!r}"
            )
        return
    numbers = [name for name, column in columns.items() if column.dtype in _NUMBERS]
    try:
        compile_label(label.value, numbers)
    except LabelExpressionError as error:
        raise DefinitionError(f"{where}: {error}") from error


def given_label(label: Label | None, task: Task, where: str) -> str | None:
    """``Label.on_timeout`` as text; None if there is none."""
    if label is None or label.on_timeout is None:
        return None
    value = label.on_timeout
    if task == "multiclass":
        return text_of(value)
    if isinstance(value, str):
        raise DefinitionError(f"{where}: on_timeout is the text {value!r}; use a number or boolean")
    if float(value) - float(value) != 0.0:
        raise DefinitionError(f"{where}: on_timeout must be a finite number")
    return repr(float(value))


def segments_of(model: Model, spine: Topic, schema: FeatureSchema, where: str) -> tuple[str, ...]:
    """``Model.segments``, which must be inputs with few values."""
    columns = columns_of(spine)
    inputs = _inputs(schema)
    for name in model.segments:
        if name not in inputs:
            raise DefinitionError(
                f"{where}: segment {name!r} is neither a request field nor an entity key of the "
                f"model; it has {', '.join(inputs)}"
            )
        if columns[name].dtype not in _TEXTS:
            raise DefinitionError(
                f"{where}: segment {name!r} is a {columns[name].dtype}; use a string, an integer "
                "or a boolean"
            )
    if len(set(model.segments)) < len(model.segments):
        raise DefinitionError(f"{where}: a segment stands twice")
    return tuple(model.segments)


def assigned_by(model: Model, schema: FeatureSchema, where: str) -> str:
    """``Model.assign_by``, or the first entity key; empty if there is none."""
    inputs = _inputs(schema)
    if model.assign_by:
        if model.assign_by not in inputs:
            raise DefinitionError(
                f"{where}: assign_by {model.assign_by!r} is neither a request field nor an entity "
                f"key of the model; it has {', '.join(inputs)}"
            )
        return model.assign_by
    return next((key for field in schema.places for key in field.join_keys), "")


def compile_rollout(rollout: Rollout | None, task: Task, where: str) -> RolloutPlan | None:
    """A rollout as the evaluator takes it; None for none."""
    if rollout is None:
        return None
    if task == "anomaly":
        raise DefinitionError(
            f"{where}: scores of anomaly detectors have no scale in common, so that no rollout can "
            "compare them; leave rollout out, each new version then serves at once"
        )
    shares = tuple(float(share) for share in rollout.shares)
    if not shares or not all(0.0 < share <= 1.0 for share in shares):
        raise DefinitionError(f"{where}: rollout shares must be above 0 and at most 1")
    if any(share >= after for share, after in pairwise(shares)):
        raise DefinitionError(f"{where}: rollout shares must grow from step to step")
    checks = {
        "labels_per_step must be at least 1": rollout.labels_per_step >= 1,
        # The evaluator tells two losses of one row apart by so much at the most.
        "margin must be 0 or more, and below 2": 0.0 <= rollout.margin < 2.0,
        "false_alarm must be above 0 and below 0.5": 0.0 < rollout.false_alarm < 0.5,
        "rest must be 0 or more": timedelta(0) <= rollout.rest <= LONGEST,
        "probation_labels must be 0 or more": rollout.probation_labels >= 0,
    }
    for what, holds in checks.items():
        if not holds:
            raise DefinitionError(f"{where}: rollout {what}")
    rest_us = rollout.rest // _MICROSECOND
    return RolloutPlan(
        shares, rollout.labels_per_step, float(rollout.margin), rollout.false_alarm, rest_us,
        rollout.probation_labels,
    )  # fmt: skip


def _inputs(schema: FeatureSchema) -> list[str]:
    """Names of all entity keys and request fields, in order of first use."""
    names: dict[str, None] = {}
    for field in schema.places:
        names.update(dict.fromkeys(field.join_keys))
        if field.kind == "request":
            names[field.name] = None
    return list(names)
