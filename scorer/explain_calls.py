"""``Explain``: a message in, a few runs of the model in a thread, a message out."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from scorer.calls import Call
from scorer.errors import InvalidRequestError, OverloadedError, StoppingError
from scorer.explain import (
    Contrast,
    Explanation,
    Floats,
    LinearForm,
    Link,
    Method,
    explain_linear,
)
from scorer.messages import inputs_of, stand_ins, to_us
from scorer.model import INPUT, OUTPUT, LoadedModel
from scorer.scoring import Scoring
from scorer.shapley import explain_shapley, samples_max
from scorer.v1 import scorer_pb2
from scorer.vector import Vectors

# Explaining takes as much as scoring hundreds of rows, and scoring must go on meanwhile.
AT_ONCE_MAX = 2
_SAMPLES_DEFAULT = 200
_METHODS = {
    Method.LINEAR: scorer_pb2.EXPLAIN_METHOD_LINEAR,
    Method.EXACT_SHAPLEY: scorer_pb2.EXPLAIN_METHOD_EXACT_SHAPLEY,
    Method.SAMPLED_SHAPLEY: scorer_pb2.EXPLAIN_METHOD_SAMPLED_SHAPLEY,
}
_LINKS = {
    Link.IDENTITY: scorer_pb2.EXPLAIN_LINK_IDENTITY,
    Link.LOG_ODDS: scorer_pb2.EXPLAIN_LINK_LOG_ODDS,
}


@dataclass(frozen=True)
class _Task:
    """All that a thread needs to explain a row; ``place`` is that of the class to explain."""

    model: LoadedModel
    row: Floats
    baseline: Floats
    samples: int
    seed: int
    stopped: threading.Event
    place: int | None = None

    def run(self, matrix: Floats) -> Floats:
        """Scores, unless nobody waits any more; ends a long explanation between two runs."""
        if self.stopped.is_set():
            raise StoppingError("the scorer is stopping; try again")
        if self.place is None:
            return self.model.run(matrix)
        found = self.model.outputs(matrix).probabilities
        assert found is not None
        return np.ascontiguousarray(found[:, self.place])

    @property
    def label(self) -> str:
        """Name of the class; empty if there is none."""
        return "" if self.place is None else self.model.manifest.classes[self.place]

    def of_class(self) -> _Task:
        """The same, of a multi-class model for the class that the row is predicted to be."""
        found = (
            self.model.outputs(self.row[None]).probabilities if self.model.is_multiclass else None
        )
        return self if found is None else replace(self, place=int(found[0].argmax()))


class _Found(NamedTuple):
    label: str
    contrast: Contrast
    explanation: Explanation


class ExplainCalls:
    """Answers ``Explain``, a few at one time. ``close`` it at the end."""

    def __init__(
        self,
        scoring: Scoring,
        explain_samples_max: int,
        explained: Callable[[str, int], None] = lambda model, samples: None,
    ) -> None:
        """``explain_samples_max`` is the most orders of fields that a request may ask for.

        ``explained`` is told the model and the orders sampled of each explanation.
        """
        self._scoring = scoring
        self._samples_max = explain_samples_max
        self._explained = explained
        self._under_way = 0
        # Threads of its own: loading models and reading stores must not wait for explanations.
        self._threads = ThreadPoolExecutor(AT_ONCE_MAX, "explain")
        self._stops: set[threading.Event] = set()
        # Of a version that is no longer loaded nothing is kept.
        self._forms: WeakKeyDictionary[LoadedModel, LinearForm | None] = WeakKeyDictionary()

    async def explain(
        self, request: scorer_pb2.ExplainRequest, call: Call
    ) -> scorer_pb2.ExplainResponse:
        """See the proto.

        Raises:
            InvalidRequestError: no row, an input that is wrong, a baseline that does not fit the
                model, or more samples than the limit.
            OverloadedError: as many explanations as may be are under way.
            ScorerError: what ``Scoring.model`` and ``Scoring.vectors`` raise.
        """
        call.request_id = request.request_id
        model = await self._scoring.model(call, request.model, request.version, request.channel)
        if not request.HasField("row"):
            raise InvalidRequestError("no row: give the row to explain")
        if not 0 <= request.samples <= self._samples_max:
            raise InvalidRequestError(
                f"{request.samples} samples; give 0 (for the default) to {self._samples_max}"
            )
        baseline = _baseline(model, request.baseline)
        at_us = to_us(request.event_time) if request.HasField("event_time") else None
        if self._under_way >= AT_ONCE_MAX:
            raise OverloadedError(f"{AT_ONCE_MAX} explanations are under way; try again later")
        self._under_way += 1
        future: Future[_Found] | None = None
        stopped = threading.Event()
        try:
            inputs = [inputs_of(0, request.row.inputs)]
            vectors = await self._scoring.vectors(call, model, inputs, at_us)
            call.missing = len(vectors.missing[0])
            row = np.array(vectors.values[0], dtype=np.float64)
            samples = request.samples or min(
                _SAMPLES_DEFAULT, self._samples_max, samples_max(int((row != baseline).sum()))
            )
            task = _Task(model, row, baseline, samples, request.seed, stopped)
            self._stops.add(stopped)
            future = self._threads.submit(self._explanation, task)
            found = await asyncio.wrap_future(future)
        finally:
            stopped.set()
            self._stops.discard(stopped)
            if future is None or future.done():
                self._under_way -= 1
            else:
                # The caller has left; the thread has not, until its run of the model is over.
                loop = asyncio.get_running_loop()
                future.add_done_callback(lambda _: self._left(loop))
        self._explained(model.manifest.model, found.explanation.samples)
        return _response(request, model, vectors, found)

    def close(self) -> None:
        """Stop what is under way after its run of the model; no call may come after this."""
        for stop in self._stops:
            stop.set()
        self._threads.shutdown(wait=False)

    def _left(self, loop: asyncio.AbstractEventLoop) -> None:
        # Without a loop nobody counts any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        self._under_way -= 1

    def _explanation(self, task: _Task) -> _Found:
        """In a thread: the model's own scores, then contributions."""
        model = task.model
        task = task.of_class()
        # One by one, as Score gives them: sums of more rows may differ in the last bit.
        score, baseline_score = (
            float(task.run(vector[None])[0]) for vector in (task.row, task.baseline)
        )
        if not np.isfinite([score, baseline_score]).all():
            raise InvalidRequestError(
                "the values of row or baseline are too large for the model to compute a score"
            )
        contrast = Contrast(task.row, task.baseline, score, baseline_score)
        # The largest of some outputs is no linear form, and of each class alone nobody asked.
        form = None if model.is_multiclass else self._linear_form(model)
        if form is not None and form.link not in _links_of(model):
            form = None
        ends = ((task.row, score), (task.baseline, baseline_score))
        if form is not None and all(form.gives(vector, known) for vector, known in ends):
            # Log-odds may be too large for a double where scores are not.
            with contextlib.suppress(OverflowError):
                return _Found(task.label, contrast, explain_linear(form, contrast))
        found = explain_shapley(task.run, contrast, task.samples, task.seed)
        return _Found(task.label, contrast, found)

    def _linear_form(self, model: LoadedModel) -> LinearForm | None:
        """The model's linear form, worked out when it is first asked for."""
        if model not in self._forms:
            # Takes 0.1 s and 12 MB, which scorers that explain nothing need not spend.
            from scorer.linear_graph import linear_form

            data = model.onnx
            self._forms[model] = None if data is None else linear_form(data, INPUT, OUTPUT)
        return self._forms[model]


def _links_of(model: LoadedModel) -> tuple[Link, ...]:
    """The scales that its scores have: log-odds are those of a probability."""
    return (Link.IDENTITY, Link.LOG_ODDS) if model.manifest.task == "binary" else (Link.IDENTITY,)


def _baseline(model: LoadedModel, named: Mapping[str, float]) -> Floats:
    """The model's defaults, but for what is named.

    Raises:
        InvalidRequestError: a name that is no field of the vector, or a value that is not finite.
    """
    schema = model.manifest.schema
    places = {name: place for place, name in enumerate(schema.names)}
    baseline = np.array(schema.defaults, dtype=np.float64)
    for name, value in named.items():
        if name not in places:
            raise InvalidRequestError(
                f"baseline names {name!r:.100}, which is no field of this model;"
                " GetModel lists them as feature_names"
            )
        if not np.isfinite(value):
            raise InvalidRequestError(f"baseline of {name!r} is {value}; give a finite number")
        baseline[places[name]] = value
    return baseline


def _response(
    request: scorer_pb2.ExplainRequest,
    model: LoadedModel,
    vectors: Vectors,
    told: _Found,
) -> scorer_pb2.ExplainResponse:
    contrast, found = told.contrast, told.explanation
    response = scorer_pb2.ExplainResponse(
        model=request.model,
        version=model.manifest.version,
        request_id=request.request_id,
        score=contrast.score,
        baseline_score=contrast.baseline_score,
        link=_LINKS[found.link],
        output=found.output,
        baseline_output=found.baseline_output,
        method=_METHODS[found.method],
        samples=found.samples,
        residual=found.residual,
        stand_ins=stand_ins(model.plan, vectors.missing[0]),
        label=told.label,
    )
    columns = zip(
        model.manifest.schema.names,
        contrast.row.tolist(),
        contrast.baseline.tolist(),
        found.contributions.tolist(),
        found.standard_errors.tolist(),
        strict=True,
    )
    for name, value, baseline, contribution, error in columns:
        response.contributions.add(
            name=name,
            value=value,
            baseline=baseline,
            contribution=contribution,
            standard_error=error,
        )
    return response
