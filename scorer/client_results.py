"""What the client answers: messages in, plain Python out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from scorer.client_requests import Scalar
from scorer.v1 import scorer_pb2


@dataclass(frozen=True)
class StandIn:
    """A value that was not there.

    Attributes:
        name: of the vector's field.
        reason: ``null_input``, ``no_row``, ``expired`` or ``null_value``; see the proto.
        value: the model's default, which stood in.
    """

    name: str
    reason: str
    value: float


@dataclass(frozen=True)
class Scored:
    """An answer; lists have one entry for each row.

    Attributes:
        version: the version that scored all rows but those with another in ``versions``.
        scores: by the model's task; see ``RowScore`` in the proto.
        missing: names of the fields for which the default stood in.
        features: the vectors as scored; empty lists unless asked for.
        feature_names: names of the vector's fields; empty unless asked for.
        oldest_us: event time of the oldest row used, microseconds; None if none was.
        newest_us: event time of the newest row used, microseconds; None if none was.
        stand_ins: for each missing field, why, and what stood in.
        oldest_age_seconds: age of the oldest row used at that moment; None if none was.
        newest_age_seconds: age of the newest row used at that moment; None if none was.
        request_id: as in the request.
        versions: the version that scored each row.
        channels: ``champion`` or ``challenger``, as each row is assigned; empty texts where there
            was nothing to assign.
        classes: of a multi-class model.
        labels: of a multi-class model the class of each row; else empty texts.
        probabilities: of a multi-class model one for each of ``classes``; else empty lists.
    """

    version: str
    scores: list[float]
    missing: list[list[str]]
    features: list[list[float]]
    feature_names: list[str]
    oldest_us: list[int | None]
    newest_us: list[int | None]
    stand_ins: list[list[StandIn]]
    oldest_age_seconds: list[float | None]
    newest_age_seconds: list[float | None]
    request_id: str = ""
    versions: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    probabilities: list[list[float]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The class of the only row; ValueError if there were several, or no classes."""
        if not self.classes:
            raise ValueError("this model has no classes: take the score")
        if len(self.labels) != 1:
            raise ValueError(f"there are {len(self.labels)} rows: take their classes from labels")
        return self.labels[0]

    @property
    def score(self) -> float:
        """The score of the only row; ValueError if there were several."""
        if len(self.scores) != 1:
            raise ValueError(f"there are {len(self.scores)} scores: take them from scores")
        return self.scores[0]


@dataclass(frozen=True)
class Features:
    """Stored features; every list but ``names`` has one list for each row, with one entry each.

    Attributes:
        names: ``view:feature`` of each column.
        values: None where there is no value.
        missing: why there is none, as in ``StandIn``; empty where there is a value.
        event_times_us: event time of the row it stands in, microseconds; None without a row.
        ages_seconds: age of that row at the moment of the read; None without a row.
        request_id: as in the request.
    """

    names: list[str]
    values: list[list[Scalar]]
    missing: list[list[str]]
    event_times_us: list[list[int | None]]
    ages_seconds: list[list[float | None]]
    request_id: str = ""


@dataclass(frozen=True)
class Contribution:
    """What one field did to the output; see the proto for each."""

    name: str
    value: float
    baseline: float
    contribution: float
    standard_error: float


@dataclass(frozen=True)
class Explanation:
    """How much each field moved the score away from the baseline's; see the proto for each.

    ``label`` is empty but of a multi-class model. ``link`` is ``identity`` or ``log_odds``,
    ``method`` is ``linear``, ``exact_shapley`` or ``sampled_shapley``.
    """

    version: str
    score: float
    baseline_score: float
    link: str
    output: float
    baseline_output: float
    contributions: list[Contribution]
    method: str
    samples: int
    residual: float
    stand_ins: list[StandIn]
    request_id: str = ""
    label: str = ""


@dataclass(frozen=True)
class ModelInput:
    """An input that each row needs; ``type`` is float64, int64, bool or string."""

    name: str
    type: str
    entity_key: bool


@dataclass(frozen=True)
class ModelInfo:
    """What a model needs, and what is known about one of its versions; see the proto for each."""

    model: str
    version: str
    inputs: list[ModelInput]
    feature_names: list[str]
    fingerprint: str
    learner: str
    trained_until_us: int
    examples: int
    metrics: dict[str, float]
    task: str = ""
    classes: list[str] = field(default_factory=list)
    assign_by: str = ""


@dataclass(frozen=True)
class Routes:
    """Which versions of a model serve, and how rows are shared; see ``ModelSummary`` in the proto.

    ``channels`` is channel -> version, ``weights`` is channel -> share.
    """

    channels: dict[str, str]
    weights: dict[str, float]
    salt: str


def scored(response: scorer_pb2.ScoreResponse) -> Scored:
    """A score."""
    rows = response.scores
    return Scored(
        version=response.version,
        scores=[row.score for row in rows],
        missing=[list(row.missing) for row in rows],
        features=[list(row.features) for row in rows],
        feature_names=list(response.feature_names),
        oldest_us=[
            _us(row.oldest_feature_time) if row.HasField("oldest_feature_time") else None
            for row in rows
        ],
        newest_us=[
            _us(row.newest_feature_time) if row.HasField("newest_feature_time") else None
            for row in rows
        ],
        stand_ins=[_stand_ins(row.stand_ins) for row in rows],
        oldest_age_seconds=[
            row.oldest_feature_age_seconds if row.HasField("oldest_feature_age_seconds") else None
            for row in rows
        ],
        newest_age_seconds=[
            row.newest_feature_age_seconds if row.HasField("newest_feature_age_seconds") else None
            for row in rows
        ],
        request_id=response.request_id,
        versions=[row.version or response.version for row in rows],
        channels=[row.channel for row in rows],
        classes=list(response.classes),
        labels=[row.label for row in rows],
        probabilities=[list(row.probabilities) for row in rows],
    )


def features(response: scorer_pb2.GetFeaturesResponse) -> Features:
    """Stored features."""
    rows = [row.values for row in response.rows]
    return Features(
        names=list(response.names),
        values=[[_scalar(one.value) for one in row] for row in rows],
        missing=[[_reason(one.missing) for one in row] for row in rows],
        event_times_us=[
            [_us(one.event_time) if one.HasField("event_time") else None for one in row]
            for row in rows
        ],
        ages_seconds=[
            [one.age_seconds if one.HasField("age_seconds") else None for one in row]
            for row in rows
        ],
        request_id=response.request_id,
    )


def explanation(response: scorer_pb2.ExplainResponse) -> Explanation:
    """An explanation."""
    return Explanation(
        version=response.version,
        score=response.score,
        baseline_score=response.baseline_score,
        link=_LINKS.get(response.link, ""),
        output=response.output,
        baseline_output=response.baseline_output,
        contributions=[
            Contribution(one.name, one.value, one.baseline, one.contribution, one.standard_error)
            for one in response.contributions
        ],
        method=_METHODS.get(response.method, ""),
        samples=response.samples,
        residual=response.residual,
        stand_ins=_stand_ins(response.stand_ins),
        request_id=response.request_id,
        label=response.label,
    )


def model_info(response: scorer_pb2.GetModelResponse) -> ModelInfo:
    """A model."""
    return ModelInfo(
        model=response.model,
        version=response.version,
        inputs=[ModelInput(one.name, one.type, one.entity_key) for one in response.inputs],
        feature_names=list(response.feature_names),
        fingerprint=response.fingerprint,
        learner=response.learner,
        trained_until_us=_us(response.trained_until),
        examples=response.examples,
        metrics=dict(response.metrics),
        task=response.task,
        classes=list(response.classes),
        assign_by=response.assign_by,
    )


def versions(response: scorer_pb2.ListModelsResponse) -> dict[str, str]:
    """Model -> version that serves (empty if none does yet)."""
    return {one.model: one.version for one in response.models}


def channels(response: scorer_pb2.ListModelsResponse) -> dict[str, dict[str, str]]:
    """Model -> channel -> version."""
    return {one.model: dict(one.channels) for one in response.models}


def routes(response: scorer_pb2.ListModelsResponse) -> dict[str, Routes]:
    """Model -> versions and shares."""
    return {
        one.model: Routes(dict(one.channels), dict(one.weights), one.salt)
        for one in response.models
    }


# A scorer newer than this client may have reasons that it does not know.
_REASONS: dict[int, str] = {
    number: name.removeprefix("MISSING_REASON_").lower()
    for name, number in scorer_pb2.MissingReason.items()
    if number
}
_LINKS: dict[int, str] = {
    number: name.removeprefix("EXPLAIN_LINK_").lower()
    for name, number in scorer_pb2.ExplainLink.items()
    if number
}
_METHODS: dict[int, str] = {
    number: name.removeprefix("EXPLAIN_METHOD_").lower()
    for name, number in scorer_pb2.ExplainMethod.items()
    if number
}


def _reason(number: int) -> str:
    return _REASONS.get(number, f"reason_{number}") if number else ""


def _stand_ins(messages: Sequence[scorer_pb2.StandIn]) -> list[StandIn]:
    return [StandIn(one.name, _reason(one.reason), one.value) for one in messages]


def _us(time: Timestamp) -> int:
    return time.ToMicroseconds()


def _scalar(value: scorer_pb2.Value) -> Scalar:
    kind = value.WhichOneof("kind")
    if kind == "double_value":
        return value.double_value
    if kind == "int64_value":
        return value.int64_value
    if kind == "string_value":
        return value.string_value
    return value.bool_value if kind == "bool_value" else None
