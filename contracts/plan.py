"""The compiled repository: all that the dataflow runs, as plain data without Feast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contracts.feature_schema import FeatureSchema, ValueType
from contracts.model_spec import Task

ColumnType = Literal["string", "int64", "float64", "bool", "timestamp"]
RecordFormat = Literal["json", "avro", "protobuf"]
Framing = Literal["none", "schema-registry"]
AggregateFunction = Literal[
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "var",
    "std",
    "first",
    "last",
    "count_distinct",
    "latest",
]
TransformMode = Literal["none", "python", "pandas"]


@dataclass(frozen=True)
class Column:
    """A field of a topic's records. A missing or null value is bad unless ``nullable``."""

    name: str
    dtype: ColumnType
    nullable: bool


@dataclass(frozen=True)
class Topic:
    """A stream of records.

    Attributes:
        columns: the fields that are read; others are ignored.
        timestamp_field: column with the event time.
        watermark_delay_us: how far (microseconds) behind the newest event one may be on time.
        key_field: column whose hash chooses the partition when producing.
        format: how a record is written.
        schema: of Avro the schema as JSON, of Protobuf the message class (``module.Message``);
            empty for JSON.
        framing: whether five bytes stand before a record: zero, and the number of its schema in
            a schema registry (of Protobuf also the place of its message in the file).
        field_mapping: (name in the record, name of the column) of fields that are called otherwise
            in views and models; ``columns``, ``timestamp_field`` and ``key_field`` have the names
            in the record.
    """

    name: str
    columns: tuple[Column, ...]
    timestamp_field: str
    watermark_delay_us: int
    key_field: str
    format: RecordFormat = "json"
    schema: str = ""
    framing: Framing = "none"
    field_mapping: tuple[tuple[str, str], ...] = ()

    def column_name(self, field: str) -> str:
        """What a field of the record is called outside of it."""
        return dict(self.field_mapping).get(field, field)


@dataclass(frozen=True)
class Aggregate:
    """One windowed feature: ``function`` of ``column`` over ``window_us`` in tiles of ``hop_us``.

    ``window_us == 0`` is the whole history (then ``hop_us`` is 0 too). ``latest`` is the latest
    row's value, null included; ``last`` is the last value that is not null. ``var`` and ``std`` are
    those of a population. ``column_type`` is what the column holds in the topic, or is declared to
    hold after the view's transformation.
    """

    feature: str
    dtype: ValueType
    column: str
    function: AggregateFunction
    window_us: int
    hop_us: int
    column_type: ColumnType = "float64"


@dataclass(frozen=True)
class View:
    """A stream feature view: one topic, one entity key, some aggregates.

    Attributes:
        join_keys: columns that make up the entity key, in the view's order.
        join_key_types: their value types, in the same order (``string`` or ``int64``).
        ttl_us: values older than this at a read are missing; 0 is no limit.
        offline_path: folder of the view's Parquet files; empty for a view that is served only.
        exact_tiles_max: 0 for windows that move by their hop. Else windows move by the microsecond
            (``hop_us`` of its aggregates is 1), and of an entity at most so many distinct moments
            are told apart in one window; when there are more, neighbours are put together.
        distinct_bits: ``count_distinct`` has 2 ** distinct_bits registers.
        transform: how the view's function of the rows (``Repository.transforms``) is to be called
            before anything else looks at them.
    """

    name: str
    topic: str
    join_keys: tuple[str, ...]
    join_key_types: tuple[ValueType, ...]
    aggregates: tuple[Aggregate, ...]
    ttl_us: int
    offline_path: str
    exact_tiles_max: int = 0
    distinct_bits: int = 8
    transform: TransformMode = "none"


@dataclass(frozen=True)
class ModelPlan:
    """A model, resolved.

    Attributes:
        label_topic: empty for an anomaly detector without labels; then all of the label is.
        views: those that the schema reads, in order of first use.
        on_timeout: the label of a prediction that is given up, as text; None learns nothing.
        segments: columns of the spine that are inputs too, by which metrics are split.
        assign_by: the input that decides between champion and challenger; empty: the row's key.
        rollout: None makes each new version the champion at once.
        drift: None does not watch for it.
    """

    name: str
    spine_topic: str
    spine_key: str
    label_topic: str
    label_key: str
    label_value: str
    label_timeout_us: int
    publish_every_us: int
    views: tuple[str, ...]
    schema: FeatureSchema
    task: Task = "binary"
    on_timeout: str | None = None
    segments: tuple[str, ...] = ()
    assign_by: str = ""
    rollout: RolloutPlan | None = None
    intended_use: str = ""
    drift: DriftPlan | None = None


@dataclass(frozen=True)
class RolloutPlan:
    """As ``model_spec.Rollout``, with time in microseconds."""

    shares: tuple[float, ...]
    labels_per_step: int
    margin: float
    false_alarm: float
    rest_us: int
    probation_labels: int = 0


@dataclass(frozen=True)
class DriftPlan:
    """As ``model_spec.Drift``."""

    window_rows: int
    reference_rows: int
    warmup_rows: int
    psi: float | None
    ks: float | None
    missing: float | None
    score: float | None
    error: float | None
    false_alarm: float
    renew_after_rows: int | None


@dataclass(frozen=True)
class Plan:
    """Everything a repository asks of the engine; topics, views and models sorted by name."""

    project: str
    topics: tuple[Topic, ...]
    views: tuple[View, ...]
    models: tuple[ModelPlan, ...]

    def topic(self, name: str) -> Topic:
        """The topic of that name (KeyError if none)."""
        return {topic.name: topic for topic in self.topics}[name]

    def view(self, name: str) -> View:
        """The view of that name (KeyError if none)."""
        return {view.name: view for view in self.views}[name]

    def model(self, name: str) -> ModelPlan:
        """The model of that name (KeyError if none)."""
        return {model.name: model for model in self.models}[name]
