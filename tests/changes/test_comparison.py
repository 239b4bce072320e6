"""What is told of two sets of definitions, for each way in which one can differ from the other."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import Aggregate, Plan, Topic, View
from dataflows.changes.comparison import Changes, Parting, compare, features_of, parting_details
from dataflows.changes.detail import Change, shown_us
from dataflows.changes.made_of import MadeOf
from dataflows.changes.model_definitions import model_details
from dataflows.changes.parts import belonging_together, left_behind, must_rebuild, replay_for
from tests.changes.plans import (
    HOUR_US,
    OF_MODELS,
    OF_TOPICS,
    OF_VIEWS,
    WITHOUT_REPLAY,
    Mutation,
    definitions,
    one_of_each,
    with_one,
)

FEW = settings(max_examples=30)


def _changed(changes: Changes) -> list[tuple[str, Change]]:
    return [
        (sort, change)
        for sort in ("topics", "views", "models", "services")
        for change in getattr(changes, sort)
        if change.kind != "unchanged"
    ]


def _plan_of(topic: Topic, *views: View) -> Plan:
    """A plan without models."""
    return Plan("shop", (topic,), views, ())


def _mutated(made: MadeOf, sort: str, name: str, mutation: Mutation) -> MadeOf:
    found = with_one(getattr(made.plan, sort), name, mutation)
    return replace(made, plan=_with(made.plan, sort, found))


def _with(one: Any, name: str, value: Any) -> Any:
    return replace(one, **{name: value})


@FEW
@given(definitions())
def test_the_same_definitions_are_no_change(made: MadeOf) -> None:
    """Definitions that went through a file are the same, and take no replay."""
    again = msgspec.json.decode(msgspec.json.encode(made), type=MadeOf)
    changes = compare(made, again)
    assert changes.is_empty
    assert not must_rebuild(changes)
    assert replay_for(changes, made.plan, again.plan).scope == "nothing"


@settings(max_examples=20)
@given(st.data())
@pytest.mark.parametrize(
    ("sort", "mutations"), [("topics", OF_TOPICS), ("views", OF_VIEWS), ("models", OF_MODELS)]
)
def test_each_change_is_told_by_name(
    sort: str, mutations: dict[str, Mutation], data: st.DataObject
) -> None:
    """One thing that changes is told of its own name only, in words, and takes a replay."""
    made = data.draw(definitions())
    names = [one.name for one in getattr(made.plan, sort)]
    if not names:
        return
    name = data.draw(st.sampled_from(names))
    for words, mutation in mutations.items():
        after = _mutated(made, sort, name, mutation)
        changes = compare(made, after)
        ((told, change),) = _changed(changes)
        assert (told, change.name, change.kind) == (sort, name, "changed")
        assert any(words in detail.text for detail in change.details), (words, change.details)
        assert must_rebuild(changes)
        replay = replay_for(changes, made.plan, after.plan)
        if sort == "topics":
            assert replay.command == "headwater replay"
            assert any(name in reason for reason in replay.because)
        else:
            assert name in getattr(replay, sort)


@FEW
@given(st.data())
@pytest.mark.parametrize("words", [*WITHOUT_REPLAY, "offline folder: "])
def test_what_is_in_no_state_takes_no_replay(words: str, data: st.DataObject) -> None:
    """A rollout, thresholds of drift, a use and a folder are told, and nothing is replayed."""
    made = data.draw(definitions())
    if words in WITHOUT_REPLAY and not made.plan.models:
        return
    if words in WITHOUT_REPLAY:
        after = _mutated(made, "models", "m0", WITHOUT_REPLAY[words])
    else:
        after = _mutated(made, "views", "v0", lambda v: replace(v, offline_path="elsewhere"))
    changes = compare(made, after)
    ((_, change),) = _changed(changes)
    assert words in change.details[0].text
    assert not change.rebuilds
    assert not must_rebuild(changes)
    assert replay_for(changes, made.plan, after.plan).scope == "nothing"


@FEW
@given(definitions(), st.sampled_from(["code", "learners"]))
def test_code_is_compared_where_it_is_known(made: MadeOf, what: str) -> None:
    """Another function or learner is told under the name that has it, unless one is not known."""
    known: dict[str, str] = getattr(made, what)
    for name in known:
        after = _with(made, what, {**known, name: "other"})
        ((_, change),) = _changed(compare(made, after))
        assert change.name == name
        assert change.rebuilds
        assert compare(_with(made, what, None), after).is_empty


@FEW
@given(definitions(), st.data())
def test_new_and_removed(made: MadeOf, data: st.DataObject) -> None:
    """What is on one side only is new or removed, and takes a replay either way."""
    sort = data.draw(st.sampled_from(["views", "models"]))
    found: tuple[Any, ...] = getattr(made.plan, sort)
    if not found:
        return
    gone = data.draw(st.sampled_from(found))
    rest = tuple(one for one in found if one is not gone)
    less = replace(made, plan=_with(made.plan, sort, rest))
    for before, after, kind in ((made, less, "removed"), (less, made, "new")):
        changes = compare(before, after)
        ((told, change),) = _changed(changes)
        assert (told, change.name, change.kind) == (sort, gone.name, kind)
        assert must_rebuild(changes)
        replay = replay_for(changes, before.plan, after.plan)
        kept, left = (getattr(replay, f"{place}{sort}") for place in ("", "gone_"))
        assert (gone.name in kept, gone.name in left) == (kind == "new", kind == "removed")
        assert left_behind(changes, (), ()) == ([] if kind == "removed" else [
            f"{sort[:-1]} {gone.name} is new"])  # fmt: skip


@FEW
@given(definitions(), definitions(), st.data())
def test_what_belongs_together_is_a_fixed_point(
    before: MadeOf, after: MadeOf, data: st.DataObject
) -> None:
    """The selection is what trying all pairs of a view and a reader again and again comes to."""
    plans = (before.plan, after.plan)
    every_view = sorted({view.name for plan in plans for view in plan.views})
    every_model = sorted({model.name for plan in plans for model in plan.models})
    views = data.draw(st.sets(st.sampled_from(every_view)))
    models = data.draw(st.sets(st.sampled_from(every_model))) if every_model else set()
    expected = {("view", name) for name in views} | {("model", name) for name in models}
    pairs = [
        (("view", view), ("model", model.name))
        for plan in plans
        for model in plan.models
        for view in model.views
    ]
    for _ in range(len(pairs) + 1):
        for one, other in pairs:
            if one in expected or other in expected:
                expected |= {one, other}
    found_views, found_models = belonging_together(plans, views, models)
    assert {("view", n) for n in found_views} | {("model", n) for n in found_models} == expected


@FEW
@given(definitions(), definitions())
def test_a_replay_of_parts_leaves_nothing_behind(before: MadeOf, after: MadeOf) -> None:
    """After what is asked for, no name that changed, nor one that is read with it, is as it was."""
    # The same topics on both sides: a topic that changed takes a replay of all.
    by_name = {topic.name: topic for topic in (*after.plan.topics, *before.plan.topics)}
    topics = tuple(by_name[name] for name in sorted(by_name))
    before, after = (
        replace(made, plan=replace(made.plan, topics=topics)) for made in (before, after)
    )
    changes = compare(before, after)
    replay = replay_for(changes, before.plan, after.plan)
    assert (replay.scope == "nothing") == (not must_rebuild(changes))
    assert left_behind(changes, replay.views, replay.models) == []
    if replay.scope != "parts":
        return
    chosen = {*replay.views, *replay.models, *replay.gone_views, *replay.gone_models}
    for plan in (before.plan, after.plan):
        for model in plan.models:
            assert len({name in chosen for name in (model.name, *model.views)}) == 1
    options = dict(zip(replay.arguments[::2], replay.arguments[1::2], strict=True))
    named = {n for names in options.values() for n in names.split(",")}
    read = {v for m in after.plan.models if m.name in named for v in m.views}
    assert named | read == chosen
    everything = {view.name for view in after.plan.views}
    everything |= {model.name for model in after.plan.models}
    assert {*replay.views, *replay.models} < everything


def test_how_far_back_values_reach() -> None:
    """Current values need the longest window and the watermark's delay, or else the beginning."""
    topic = Topic("t", (), "at", 5, "k")
    count = Aggregate("a", "int64", "x", "count", HOUR_US, HOUR_US)
    other = View("other", "t", ("k",), ("string",), (count,), 0, "")
    longer = replace(count, window_us=3 * HOUR_US)
    one = replace(other, name="one", aggregates=(longer,))
    old = MadeOf(_plan_of(topic), {}, {})
    for views, expected in (((one, other), 3 * HOUR_US + 5), ((other,), HOUR_US + 5)):
        third = replace(other, name="third")
        before = replace(old, plan=_plan_of(topic, third))
        after = replace(old, plan=_plan_of(topic, third, *views))
        replay = replay_for(compare(before, after), before.plan, after.plan)
        assert replay.scope == "parts"
        assert replay.reach_us == expected
    endless = replace(one, aggregates=(replace(one.aggregates[0], window_us=0, hop_us=0),))
    before, after = (replace(old, plan=_plan_of(topic, other, *v)) for v in ((), (endless,)))
    replay = replay_for(compare(before, after), before.plan, after.plan)
    assert replay.arguments == ("--views", "one")
    assert replay.reach_us is None


def test_features_change_hands() -> None:
    """Of the views that are replayed each feature is new, changed, gone or the same."""
    topic = Topic("t", (), "at", 0, "k")
    a, b, c = (Aggregate(name, "int64", "x", "count", HOUR_US, HOUR_US) for name in "abc")
    view = View("v", "t", ("k",), ("string",), (a, b), 0, "")
    after = replace(view, aggregates=(replace(a, window_us=2 * HOUR_US), c))
    same = replace(view, name="w")
    plans = _plan_of(topic, view, same), _plan_of(topic, after, same)
    assert features_of(*plans, ["v"]) == {"v:a": "changed", "v:b": "gone", "v:c": "new"}
    assert features_of(*plans, ["w"]) == {"w:a": "same", "w:b": "same"}


def test_partitions_and_shards() -> None:
    """Other shards or partitions are told; topics that are new are not told here."""
    then = Parting(16, "kafka", ("a/0", "a/1", "b/0"))
    for now, words in (
        (replace(then, shards=8), ["HEADWATER_SHARDS: 16 -> 8"]),
        (replace(then, log_kind="file"), ["kind of the log: kafka -> file"]),
        (replace(then, partitions=("a/0", "b/0")), ["partitions of a: 2 -> 1"]),
        (replace(then, partitions=("a/0", "a/2", "b/0")), ["partitions of a: 0, 1 -> 0, 2"]),
        (replace(then, partitions=("a/0", "a/1", "c/0")), []),
        (then, []),
    ):
        assert [one.text for one in parting_details(then, now)] == words


@pytest.mark.parametrize(
    ("duration_us", "words"),
    [(0, "none"), (1, "1 µs"), (90 * 60_000_000, "1 h 30 min"), (25 * HOUR_US, "1 d 1 h"),
     (1_500_000, "1 s 500 ms")],
)  # fmt: skip
def test_durations_in_words(duration_us: int, words: str) -> None:
    """A duration is written in its largest units."""
    assert shown_us(duration_us, "none") == words


@pytest.mark.parametrize(
    ("place", "mutations", "others"),
    [
        (0, OF_TOPICS, {"name"}),
        (1, OF_VIEWS, {"name"}),
        (2, {**OF_MODELS, **WITHOUT_REPLAY}, {"name", "views"}),
    ],
)
def test_no_field_is_forgotten(
    place: int, mutations: dict[str, Mutation], others: set[str]
) -> None:
    """Each field of a topic, view and model is changed by one of these tests."""
    one: Any = one_of_each()[place]
    names = {field.name for field in fields(one)}
    touched = {
        name
        for mutation in mutations.values()
        for name in names
        if getattr(mutation(one), name) != getattr(one, name)
    }
    assert touched == names - others


def test_long_learners_are_told_by_what_differs() -> None:
    """Of two pipelines only the part between what they begin and end with alike is shown."""
    _, _, model = one_of_each()
    learners = [f"Pipeline (\n  Scaler (),\n  Regression (\n    l2={l2}\n  )\n)" for l2 in (0, 0.1)]
    (detail,) = model_details(model, model, *learners)
    assert detail.text == "learner: ... l2=0 -> l2=0.1 ..."
    (detail,) = model_details(model, model, "Scaler () Tree ()", "Scaler ()")
    assert detail.text == "learner: ... Tree () -> nothing"
