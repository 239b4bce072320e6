"""What batch training asks of a learner, and the learners there are, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from contracts.model_spec import Task
from dataflows.river_onnx.graph import Graph
from dataflows.training.errors import TrainingError
from dataflows.training.examples import Floats

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Parameters = Mapping[str, Any]
EXTRA = "headwater[train]"


@dataclass(frozen=True)
class Rows:
    """What a learner sees: features ``[n, e]`` and labels ``[n]``, places if there are classes."""

    features: Floats
    labels: Floats


@dataclass(frozen=True)
class Watch:
    """Rows that a learner may look at to know when to stop.

    Attributes:
        rows: that it must not learn from.
        on_round: told (round, loss on these rows) after each round, from 1 on; may raise.
    """

    rows: Rows
    on_round: Callable[[int, float], None]


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        task: what labels are.
        classes: number of classes of a multi-class model, else 0.
        rows: to learn from.
        parameters: of the learner, as ``suggest`` gives them.
        seed: of all that is random.
        threads: that it may use; results may differ in the last bits from one number to another.
        watch: None to run as many rounds as the parameters say.
    """

    task: Task
    classes: int
    rows: Rows
    parameters: Parameters
    seed: int
    threads: int
    watch: Watch | None = None


class Fitted(Protocol):
    """A model in memory."""

    @property
    def parameters(self) -> Parameters:
        """With which ``fit`` makes the same again, without anything to watch."""

    def predict(self, features: Floats) -> Floats:
        """P(True) or the number, ``[n]``; for many classes their probabilities, ``[n, C]``."""

    def append(self, graph: Graph, columns: str) -> str:
        """The same as nodes: from a float64 tensor ``[N, e]`` to the name of the output."""

    def importance(self) -> Floats:
        """How much each of the columns counts, ``[e]``; they add up to 1, or are all 0."""


class Learner(Protocol):
    """Makes models."""

    @property
    def text(self) -> str:
        """What it is, with the version of the library, for people."""

    def defaults(self, task: Task) -> Parameters:
        """Parameters that do for most data."""

    def suggest(self, trial: BaseTrial, task: Task) -> Parameters:
        """Parameters to try next."""

    def fit(self, job: Job) -> Fitted:
        """Train. The same job gives the same model."""


@dataclass(frozen=True)
class _Place:
    module: str
    attribute: str


_LEARNERS = {
    "lightgbm": _Place("dataflows.training.lightgbm_learner", "LightGbm"),
    "sklearn-hist": _Place("dataflows.training.sklearn_trees", "HistGradientBoosting"),
    "sklearn-linear": _Place("dataflows.training.sklearn_linear", "Linear"),
}
NAMES = tuple(_LEARNERS)


def learner(name: str) -> Learner:
    """The learner of that name.

    Raises:
        TrainingError: there is none, or its library is not installed.
    """
    if name not in _LEARNERS:
        raise TrainingError(f"there is no learner {name!r}; choose one of {', '.join(NAMES)}")
    place = _LEARNERS[name]
    try:
        importlib.import_module("optuna")  # every search needs it
        module = importlib.import_module(place.module)
    except (ImportError, OSError) as error:
        # LightGBM also needs OpenMP of the system, and says so with an OSError.
        raise TrainingError(
            f"learner {name!r} cannot be loaded ({error}); install it with `pip install "
            f"'{EXTRA}'`, and for LightGBM also the system's libgomp"
        ) from error
    return cast(Learner, getattr(module, place.attribute)())
