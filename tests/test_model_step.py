"""A model's step: vectors joined from reads, predicted before they are learned from."""

from __future__ import annotations

import math
import pickle
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from river import linear_model, optim, preprocessing

from contracts.feature_schema import FeatureSchema, OnDemandView, VectorField
from contracts.plan import ModelPlan, Plan, View
from dataflows.batches import LabelRows, ModelInput, ShardOutput, SpineRows, ranks_of
from dataflows.learning.records import LearnerSpec
from dataflows.model_step import ModelStep, Step
from dataflows.watermark import NOT_YET, PartitionClock
from dataflows.windows.view_state import Reads
from tests.windows.stream import feature

# Partitions: two of the spine, one of labels, one of the spine of some other model.
SPINES, LABELS, FOREIGN = (0, 1), 2, 3
_VIEW = View("v", "t", ("k",), ("string",), (feature("f", "last"), feature("g", "sum")), 0, "")
_SCHEMA = FeatureSchema(
    "p",
    (
        VectorField("amount", "request", "float64", 0.0),
        # Not in the order of the view: places must be looked up.
        VectorField("v:g", "feature", "float64", -1.0, "v", "g", ("k",), ("string",)),
        VectorField("v:f", "feature", "float64", 2.0, "v", "f", ("k",), ("string",)),
    ),
)
_MODEL = ModelPlan("m", "s", "id", "l", "id", "y", 10**9, 10**9, ("v",), _SCHEMA)
PLAN = Plan("p", (), (_VIEW,), (_MODEL,))


def _learner() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.1))


SPEC = LearnerSpec("m", _SCHEMA, _learner, 10**9, 10**9)


@dataclass(frozen=True)
class Moment:
    """A prediction (``values`` is request, f, g), a label (``truth``), or a foreign read."""

    partition: int
    time_us: int
    number: int
    truth: bool
    has_key: bool
    values: tuple[float, float, float]

    @property
    def rank(self) -> int:
        """Its place in the order."""
        return int(ranks_of(self.partition, np.array([self.number]))[0])


_NUMBERS = st.sampled_from([math.nan, -1.0, 0.5, 3.0])
_MOMENTS = st.tuples(
    st.sampled_from([0, 0, 1, 1, 2, 2, 2, 3]),
    st.integers(0, 40),
    st.booleans(),
    st.integers(0, 4).map(bool),
    st.tuples(_NUMBERS, _NUMBERS, _NUMBERS),
)


def _parts(drawn: list[Any]) -> list[list[Moment]]:
    """Per partition its moments in order of time; the n-th label is of the n-th prediction."""
    moments = [Moment(p, t, n, *rest) for n, (p, t, *rest) in enumerate(drawn)]
    parts = [[m for m in moments if m.partition == p] for p in range(4)]
    return [sorted(part, key=lambda m: (m.time_us, m.number)) for part in parts]


def _key(place: int) -> str:
    return f"k{place}"


def _spine(rows: list[Moment], keys: dict[Moment, str]) -> SpineRows:
    return SpineRows(
        [keys[m] for m in rows],
        np.array([m.time_us for m in rows], np.int64),
        np.array([m.rank for m in rows], np.int64),
        np.array([[m.values[0]] for m in rows], np.float64).reshape(-1, 1),
        np.array([int(m.has_key) for m in rows], np.int64),
    )


def _labels(rows: list[Moment], keys: dict[Moment, str]) -> LabelRows:
    return LabelRows(
        [keys[m] for m in rows],
        np.array([m.time_us for m in rows], np.int64),
        np.array([m.rank for m in rows], np.int64),
        np.array([float(m.truth) for m in rows]),
    )


def _reads(rows: list[Moment]) -> ShardOutput:
    values = np.array([m.values[1:] for m in rows], np.float64).reshape(-1, 2)
    reads = Reads(np.array([m.rank for m in rows], np.int64), values)
    return ShardOutput(0, 0, {}, {"v": reads}, {})


def _keys(parts: list[list[Moment]]) -> dict[Moment, str]:
    spine = sorted(parts[0] + parts[1], key=lambda m: m.number)
    keys = {m: _key(i) for i, m in enumerate(spine)}
    return {**keys, **{m: _key(i) for i, m in enumerate(sorted(parts[LABELS], key=_number))}}


def _number(moment: Moment) -> int:
    return moment.number


def _run(parts: list[list[Moment]], seed: int) -> tuple[ModelStep, list[Step]]:
    """Everything through a step, cut, interleaved and reloaded at random, to its end."""
    rng = random.Random(seed)
    keys = _keys(parts)
    step = ModelStep(PLAN, _MODEL, SPEC, 4)
    steps: list[Step | None] = []
    at = [0, 0, 0, 0]
    newest = [NOT_YET] * 4
    unread: list[Moment] = []
    waiting: list[ModelInput | ShardOutput] = []
    while any(at[p] < len(part) for p, part in enumerate(parts)) or unread:
        p = rng.randrange(4)
        rows = parts[p][at[p] : at[p] + rng.choice([1, 3, 20])]
        at[p] += len(rows)
        newest[p] = max([newest[p], *(m.time_us for m in rows)])
        clock = PartitionClock(p, newest[p], newest[p], False)
        spine = _spine(rows, keys) if rows and p in SPINES else None
        labels = _labels(rows, keys) if rows and p == LABELS else None
        waiting.append(ModelInput(clock, p in SPINES, spine, labels))
        unread += [m for m in rows if p != LABELS and m.has_key]
        rng.shuffle(unread)
        answered = [unread.pop() for _ in range(rng.randrange(len(unread) + 1))]
        if answered:
            waiting.append(_reads(answered))
        if rng.random() < 0.7:
            steps.append(step.on_batch(waiting))
            waiting = []
        if rng.random() < 0.2:
            stored = pickle.loads(pickle.dumps(step.dump()))
            step = ModelStep.load(PLAN, _MODEL, SPEC, 4, stored)
    idle = [
        ModelInput(PartitionClock(p, newest[p], newest[p], True), p in SPINES, None, None)
        for p in range(4)
    ]
    steps.append(step.on_batch([*waiting, *idle]))
    assert step.is_over
    steps += step.finish()
    return step, [one for one in steps if one is not None]


def _expected(parts: list[list[Moment]]) -> list[tuple[str, int, list[float], float]]:
    """(key, time, vector, score) by plain River.

    Labels of a moment come before its predictions, but for those of these predictions themselves.
    """
    keys = _keys(parts)
    model = _learner()
    waiting: dict[str, dict[str, float]] = {}
    early: dict[tuple[str, int], bool] = {}
    found = []
    moments = [m for p in (*SPINES, LABELS) for m in parts[p]]
    for m in sorted(moments, key=lambda m: (m.time_us, m.partition != LABELS, m.rank)):
        if m.partition == LABELS:
            if keys[m] in waiting:
                model.learn_one(waiting.pop(keys[m]), m.truth)
            else:
                early[keys[m], m.time_us] = m.truth
            continue
        request, f, g = m.values if m.has_key else (m.values[0], math.nan, math.nan)
        vector = [request, g, f]
        x = {
            field.name: field.default if math.isnan(value) else value
            for field, value in zip(_SCHEMA.fields, vector, strict=True)
        }
        found.append((keys[m], m.time_us, vector, model.predict_proba_one(x)[True]))
        if (keys[m], m.time_us) in early:
            model.learn_one(x, early[keys[m], m.time_us])
        else:
            waiting[keys[m]] = x
    return found


@settings(max_examples=60)
@given(st.lists(_MOMENTS, min_size=1, max_size=50), st.integers(0, 2**32))
def test_predictions_equal_plain_river(drawn: list[Any], seed: int) -> None:
    """However it is cut, each vector is scored in order of time with what was learned before."""
    parts = _parts(drawn)
    _, steps = _run(parts, seed)
    found = [
        (key, time_us, vector.tolist(), score)
        for step in steps
        for key, time_us, vector, score in zip(
            step.learned.predictions.keys,
            step.learned.predictions.times_us.tolist(),
            step.learned.predictions.features,
            step.learned.predictions.scores.tolist(),
            strict=True,
        )
    ]
    assert repr(found) == repr(_expected(parts))
    watermarks = [step.watermark_us for step in steps]
    assert watermarks == sorted(watermarks)


def test_a_model_predicts_before_it_learns() -> None:
    """A prediction whose label comes at its very moment is scored before that label is learned."""
    spine = Moment(0, 5, 0, False, True, (1.0, 1.0, 1.0))
    label = Moment(LABELS, 5, 1, True, True, (0.0, 0.0, 0.0))
    later = Moment(0, 6, 2, False, True, (1.0, 1.0, 1.0))
    _, steps = _run([[spine, later], [], [label], []], 0)
    scores = [s for step in steps for s in step.learned.predictions.scores.tolist()]
    assert scores[0] == 0.5
    assert scores[1] > 0.5


def test_reads_of_other_models_are_not_kept() -> None:
    """What a view's reads saw for another model's spine does not pile up."""
    foreign = [Moment(FOREIGN, t, t, False, True, (1.0, 1.0, 1.0)) for t in range(200)]
    own = [Moment(0, t, 1000 + t, False, True, (1.0, 1.0, 1.0)) for t in range(200)]
    step = ModelStep(PLAN, _MODEL, SPEC, 4)
    keys = _keys([own, [], [], foreign])
    sizes = []
    for begin in range(0, 200, 20):
        mine, others = own[begin : begin + 20], foreign[begin : begin + 20]
        clocks = [PartitionClock(p, begin + 20, begin + 20, False) for p in range(4)]
        items: list[Any] = [ModelInput(c, c.partition in SPINES, None, None) for c in clocks]
        items[0] = ModelInput(clocks[0], True, _spine(mine, keys), None)
        step.on_batch([*items, _reads(mine + others)])
        sizes.append(len(pickle.dumps(step.dump()["reads"])))
    assert sizes[-1] == sizes[0]


_CODE = "def made(inputs): return {'y': len(inputs['name']) / inputs['f'] + inputs['amount']}"
_ON_DEMAND = FeatureSchema(
    "p",
    (
        VectorField("made:y", "derived", "float64", 0.0, "made", "y"),
        VectorField("amount", "request", "float64", 0.0),
    ),
    (
        VectorField("v:f", "feature", "float64", 2.0, "v", "f", ("k",), ("string",)),
        VectorField("name", "request", "string", 0.0),
    ),
    (OnDemandView("made", "made", _CODE, "row", ("amount", "v:f", "name")),),
)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, 4.0]), st.sampled_from(["", "ab", None]))),
    st.integers(0, 2**32),
)
def test_vectors_have_what_functions_make(rows: list[tuple[float, str | None]], seed: int) -> None:
    """However rows are cut and stored, each gets what the function makes of its own values."""
    rng = random.Random(seed)
    model = ModelPlan("m", "s", "id", "l", "id", "y", 10**9, 10**9, ("v",), _ON_DEMAND)
    plan = Plan("p", (), (_VIEW,), (model,))
    spec = LearnerSpec("m", _ON_DEMAND, _learner, 10**9, 10**9)
    step = ModelStep(plan, model, spec, 1)
    steps: list[Step | None] = []
    for number, (f, name) in enumerate(rows):
        rank = ranks_of(0, np.array([number]))
        reads = {"v": Reads(rank, np.array([[f, 7.0]]))}
        spine = SpineRows(
            [_key(number)],
            np.array([number]),
            rank,
            np.array([[number / 8]]),
            np.array([1]),
            ([name],),
        )
        clock = PartitionClock(0, rng.choice([0, number]), number, False)
        items: list[Any] = [ModelInput(clock, True, spine, None)]
        items.insert(rng.randrange(2), ShardOutput(0, 0, {}, reads, {}))
        steps.append(step.on_batch(items))
        if rng.random() < 0.3:
            stored = pickle.loads(pickle.dumps(step.dump()))
            step = ModelStep.load(plan, model, spec, 1, stored)
    over = PartitionClock(0, len(rows), len(rows), True)
    steps.append(step.on_batch([ModelInput(over, True, None, None)]))
    done = [one for one in [*steps, *step.finish()] if one is not None]
    failed = [one for each in done for one in each.unpredicted]
    found = {
        key: vector
        for each in done
        for key, vector in zip(
            each.learned.predictions.keys, each.learned.predictions.features.tolist(), strict=True
        )
    }
    for number, (f, name) in enumerate(rows):
        if name is not None and f:
            assert found.pop(_key(number)) == [len(name) / f + number / 8, number / 8]
            continue
        one = failed.pop(0)
        assert (one.key, one.rank) == (_key(number), int(ranks_of(0, np.array([number]))[0]))
        kind = "TypeError" if name is None else "ZeroDivisionError"
        assert str(one.failure) == f"on-demand view 'made': it raised {kind}"
    assert not found
    assert not failed
