"""What differs between two definitions of a model, in words."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from contracts.feature_schema import FeatureSchema, OnDemandView, VectorField
from contracts.plan import ModelPlan
from dataflows.changes.detail import Detail, moved, moved_members, moved_us

# What counts from now on, and is in no state.
_WITHOUT_REPLAY = ("rollout", "drift", "intended_use")


def model_details(
    before: ModelPlan, after: ModelPlan, learner_before: str | None, learner_after: str | None
) -> tuple[Detail, ...]:
    """What differs between two models of one name; none if they are the same.

    Args:
        before: its plan then.
        after: its plan now.
        learner_before: its learner then, as Python shows it; None if it is not known.
        learner_after: now.
    """
    found = moved("spine", before.spine_topic, after.spine_topic)
    found += moved("spine key", before.spine_key, after.spine_key)
    found += moved("label's topic", before.label_topic, after.label_topic)
    found += moved("label's key", before.label_key, after.label_key)
    found += moved("label", before.label_value, after.label_value)
    found += moved_us("label's timeout", before.label_timeout_us, after.label_timeout_us, "none")
    found += moved("label after the timeout", before.on_timeout, after.on_timeout)
    found += moved_us("publish_every", before.publish_every_us, after.publish_every_us, "none")
    found += moved("task", before.task, after.task)
    found += _vector(before.schema, after.schema)
    found += moved("segments", before.segments, after.segments)
    found += moved("assign_by", before.assign_by, after.assign_by)
    if learner_before is not None and learner_after is not None and learner_before != learner_after:
        found.append(Detail(f"learner: {_apart(learner_before, learner_after)}"))
    found += _without_replay(before, after)
    rest = {name: getattr(after, name) for name in _WITHOUT_REPLAY}
    if replace(before, **rest) != after and not any(one.rebuilds for one in found):
        found.append(Detail("its definition changed"))
    return tuple(found)


def has_another_vector(before: ModelPlan, after: ModelPlan) -> bool:
    """Whether versions for the one cannot score the vector of the other."""
    return before.schema.fingerprint != after.schema.fingerprint


def _without_replay(before: ModelPlan, after: ModelPlan) -> list[Detail]:
    return [
        Detail(f"{name} changed (no replay)", rebuilds=False)
        for name in _WITHOUT_REPLAY
        if getattr(before, name) != getattr(after, name)
    ]


def _vector(before: FeatureSchema, after: FeatureSchema) -> list[Detail]:
    found = moved("project", before.project, after.project)
    found += moved_members("vector field", _fields(before.fields), _fields(after.fields))
    found += moved_members("hidden input", _fields(before.hidden), _fields(after.hidden))
    found += moved_members("on-demand view", _on_demand(before), _on_demand(after))
    then = {view.name: view.code for view in before.on_demand}
    for view in after.on_demand:
        if then.get(view.name, view.code) != view.code:
            found.append(Detail(f"on-demand view {view.name}: code of its function changed"))
    if before != after and not found:
        found.append(Detail("its vector changed"))
    return found


def _fields(fields: tuple[VectorField, ...]) -> dict[str, str]:
    return {one.name: _words(one) for one in fields}


def _words(one: VectorField) -> str:
    text = f"{one.kind} {one.dtype}, default {one.default:g}"
    if one.join_keys:
        keys = zip(one.join_keys, one.join_key_types, strict=True)
        text += f", key {' '.join(f'{name} {kind}' for name, kind in keys)}"
    return text + (f", ttl {one.ttl_seconds:g} s" if one.ttl_seconds else "")


def _on_demand(schema: FeatureSchema) -> dict[str, str]:
    return {view.name: _on_demand_words(view) for view in schema.on_demand}


def _on_demand_words(view: OnDemandView) -> str:
    return f"{view.function} of {', '.join(view.inputs)}, by {view.takes}"


def _apart(before: str, after: str) -> str:
    """Two texts of Python, which may be long, without the words that both begin and end with."""
    then, now = before.split(), after.split()
    shared = list(takewhile(lambda pair: pair[0] == pair[1], zip(then, now, strict=False)))
    then, now = then[len(shared) :], now[len(shared) :]
    pairs = zip(reversed(then), reversed(now), strict=False)
    ending = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    texts = [" ".join(words[: len(words) - ending]) or "nothing" for words in (then, now)]
    return f"{'... ' if shared else ''}{texts[0]} -> {texts[1]}{' ...' if ending else ''}"
