"""What the client asks: plain Python in, messages out."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

from google.protobuf.struct_pb2 import NULL_VALUE

from scorer.v1 import scorer_pb2

Scalar = float | int | str | bool | None
Row = Mapping[str, Scalar]
Rows = Sequence[Row]


@dataclass(frozen=True)
class ScoreOptions:
    """What a request may say beside model and rows; see the proto for each.

    ``event_time_us`` None is the scorer's clock. ``version`` and ``channel`` empty is the
    champion, but for rows that are assigned to a challenger. ``keys`` has the key of each row's
    prediction, or none of any.
    """

    version: str = ""
    request_id: str = ""
    event_time_us: int | None = None
    include_features: bool = False
    channel: str = ""
    keys: Sequence[str] = ()


@dataclass(frozen=True)
class ExplainOptions:
    """What a request for an explanation may say beside model and row; see the proto for each.

    ``baseline`` has values of fields by name, and every other field has the model's default.
    ``samples`` 0 is the scorer's default.
    """

    version: str = ""
    request_id: str = ""
    event_time_us: int | None = None
    channel: str = ""
    baseline: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0
    seed: int = 0


SCORE_DEFAULTS = ScoreOptions()
EXPLAIN_DEFAULTS = ExplainOptions()


@dataclass(frozen=True)
class FeaturesOf:
    """Which features to read; exactly one is given.

    Attributes:
        service: all of this feature service.
        model: those that the champion of this model reads.
        names: these, each as ``view:feature``.
    """

    service: str = ""
    model: str = ""
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse none, and more than one."""
        if sum(map(bool, (self.service, self.model, self.names))) != 1:
            raise ValueError("give one of service, model and names")


@dataclass(frozen=True)
class ScoreItem:
    """One request of a stream."""

    model: str
    rows: Row | Rows
    options: ScoreOptions = SCORE_DEFAULTS


def score_request(
    model: str, rows: Row | Rows, options: ScoreOptions = SCORE_DEFAULTS
) -> scorer_pb2.ScoreRequest:
    """The message for one row or several.

    Raises:
        TypeError: an input is no number, text, bool or None.
        ValueError: a whole number is beyond 64 bits, a text is not Unicode, or there are not as
            many keys as rows.
    """
    request = scorer_pb2.ScoreRequest(
        model=model,
        version=options.version,
        channel=options.channel,
        request_id=options.request_id,
        include_features=options.include_features,
    )
    if options.event_time_us is not None:
        request.event_time.FromMicroseconds(options.event_time_us)
    for row in [rows] if isinstance(rows, Mapping) else rows:
        _fill(request.rows.add(), row)
    if options.keys:
        # A text is a sequence of keys too, which nobody means.
        if isinstance(options.keys, str) or len(options.keys) != len(request.rows):
            raise ValueError(f"keys: give a list of {len(request.rows)}, one for each row")
        for message, key in zip(request.rows, options.keys, strict=True):
            message.key = key
    return request


def features_request(
    source: FeaturesOf, rows: Row | Rows, event_time_us: int | None, request_id: str
) -> scorer_pb2.GetFeaturesRequest:
    """The message for the entity keys of one row or several; raises as ``score_request``."""
    request = scorer_pb2.GetFeaturesRequest(request_id=request_id)
    if source.service:
        request.feature_service = source.service
    elif source.model:
        request.model = source.model
    else:
        request.features.names.extend(source.names)
    if event_time_us is not None:
        request.event_time.FromMicroseconds(event_time_us)
    for row in [rows] if isinstance(rows, Mapping) else rows:
        _fill(request.rows.add(), row)
    return request


def explain_request(model: str, row: Row, options: ExplainOptions) -> scorer_pb2.ExplainRequest:
    """The message for a row; raises as ``score_request``."""
    request = scorer_pb2.ExplainRequest(
        model=model,
        version=options.version,
        channel=options.channel,
        request_id=options.request_id,
        baseline=options.baseline,
        samples=options.samples,
        seed=options.seed,
    )
    if options.event_time_us is not None:
        request.event_time.FromMicroseconds(options.event_time_us)
    _fill(request.row, row)
    return request


def _fill(message: scorer_pb2.Row, row: Row) -> None:
    # A row without inputs is a row, too.
    message.SetInParent()
    inputs = message.inputs
    for name, value in row.items():
        if not isinstance(name, str):
            raise TypeError(f"names of inputs are text, not {type(name).__name__}")
        try:
            _set(inputs[name], value)
        except TypeError:
            kind = type(value).__name__
            raise TypeError(f"input {name!r} is a {kind}: give a number, text or None") from None
        except ValueError as error:
            raise ValueError(f"input {name!r}: {error}") from None


def _set(message: scorer_pb2.Value, value: Scalar) -> None:
    if value is None:
        message.null_value = NULL_VALUE
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, Integral):
        message.int64_value = operator.index(value)
    elif isinstance(value, Real):
        message.double_value = float(value)
    else:
        raise TypeError
