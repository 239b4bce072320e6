"""Answers: rows that one version scored, what a request makes of them, what the log gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from contracts.manifest import Manifest
from scorer.model import LoadedModel
from scorer.vector import Floats, Vectors
from scorer.vector_plan import Scalar


@dataclass(slots=True)
class Scored:
    """Rows that one version scored.

    Attributes:
        model: the version.
        scores: one for each row.
        vectors: what was scored.
        at_us: the moment of prediction, event time, microseconds since 1970 UTC.
        probabilities: float64[N, C] of a multi-class model; else None.
    """

    model: LoadedModel
    scores: list[float]
    vectors: Vectors
    at_us: int
    probabilities: Floats | None = None

    def labels(self) -> list[str]:
        """Of each row the class that is likeliest; empty texts if there are no classes."""
        if self.probabilities is None:
            return [""] * len(self.scores)
        return labels_of(self.model.manifest.classes, self.probabilities)


class Part(NamedTuple):
    """Some rows of a request, by the version that answers them.

    Attributes:
        channel: whose version it is; empty where it was asked for by its number.
        rows: their numbers in the request, ascending.
        scored: the rows.
    """

    channel: str
    rows: Sequence[int]
    scored: Scored


class Answer(NamedTuple):
    """All rows of a request.

    Attributes:
        parts: one for each version that answers, none empty.
        challenged: of each row whether it is assigned to the challenger; empty where there was
            nothing to assign.
    """

    parts: Sequence[Part]
    challenged: Sequence[bool] = ()

    @property
    def model(self) -> LoadedModel:
        """The version that the answer names; other parts name their own."""
        return self.parts[0].scored.model

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the version that the answer names, then those that only others know."""
        return tuple(
            dict.fromkeys(
                name for part in self.parts for name in part.scored.model.manifest.classes
            )
        )


class ScoredRequest(NamedTuple):
    """What one answered request leaves for the log; nothing in it is changed any more.

    Attributes:
        request_id: the caller's; may be empty.
        manifest: of the model that scored.
        inputs: of each row.
        scores: of each row.
        vectors: of all rows.
        came_us: when it came, by the scorer's clock, microseconds since 1970.
        at_us: moment of prediction, event time.
        latency_seconds: until its answer was ready.
        keys: of the predictions, one for each row; empty texts where the caller gave none.
        assigned: of each row the channel that it is assigned to; empty texts where the caller asked
            for a version or a channel.
        probabilities: float64[N, C] of a multi-class model.
        channel: whose version scored; empty if the caller asked for it by its number.
        answered: whether the caller got these scores.
        has_vectors: whether the records have the vectors; those of the same rows have them if not.
    """

    request_id: str
    manifest: Manifest
    inputs: Sequence[Mapping[str, Scalar]]
    scores: list[float]
    vectors: Vectors
    came_us: int
    at_us: int
    latency_seconds: float
    keys: Sequence[str] = ()
    assigned: Sequence[str] = ()
    probabilities: Floats | None = None
    channel: str = ""
    answered: bool = True
    has_vectors: bool = True


def aligned(scored: Scored, classes: Sequence[str]) -> Floats:
    """Its probabilities in the order of these classes; 0 for those that the version lacks."""
    assert scored.probabilities is not None
    known = scored.model.manifest.classes
    if tuple(classes) == known:
        return scored.probabilities
    places = {name: place for place, name in enumerate(classes)}
    found = np.zeros((len(scored.scores), len(places)))
    found[:, [places[name] for name in known]] = scored.probabilities
    return found


def whole(scored: Scored, channel: str = "") -> Answer:
    """An answer of which one version scored all rows."""
    return Answer((Part(channel, range(len(scored.scores)), scored),))


def labels_of(classes: Sequence[str], probabilities: Floats) -> list[str]:
    """Of each row of probabilities the class that is likeliest, the first of equals."""
    return [classes[place] for place in probabilities.argmax(axis=1).tolist()]
