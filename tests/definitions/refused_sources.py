"""What of entities, sources, services and models is refused."""

from __future__ import annotations

from collections.abc import Callable

from feast import BatchFeatureView, Entity, ValueType
from feast.data_format import AvroFormat, DeltaFormat, JsonFormat
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from river import anomaly, compose, linear_model, neighbors, preprocessing

from contracts.model_spec import Rollout
from tests.definitions.cards import HOUR, files, model, service, source, view
from tests.definitions.refused_views import (
    ZERO,
    Objects,
    batch_view,
    keyed_by,
    mapped,
    on_demand_view,
    served,
)

# What is asked for -> what is said of it.


def _choosy() -> compose.Pipeline:
    return compose.Select("nothing") | linear_model.LogisticRegression()


def _by_neighbours() -> compose.Pipeline:
    return preprocessing.StandardScaler() | neighbors.KNNClassifier()


def _forgetful() -> compose.Pipeline:
    return preprocessing.StandardScaler(window_size=9) | linear_model.LogisticRegression()


REFUSED_SOURCES: dict[str, tuple[Callable[[], Objects], str]] = {
    # Entities.
    "an entity that is a number": (lambda: keyed_by(ValueType.DOUBLE), "must be a String or Int64"),
    "an entity of 32 bits": (lambda: keyed_by(ValueType.INT32), "must be a String or Int64"),
    "an entity that is a flag": (lambda: keyed_by(ValueType.BOOL), "must be a String or Int64"),
    "an entity of no type": (lambda: keyed_by(ValueType.UNKNOWN), "must be a String or Int64"),
    "an entity of another type": (
        lambda: keyed_by(ValueType.INT64),
        "no int64 column 'card'; there it is string, make the join key's type the same",
    ),
    "an entity without column": (
        lambda: keyed_by(ValueType.STRING, "who"),
        "no string column 'who'; it has card, at",
    ),
    "two entities of one name": (
        lambda: [Entity(name="card", join_keys=["x"], value_type=ValueType.STRING), view()],
        "entity 'card' is defined twice",
    ),
    "a tag of ours at an entity": (
        lambda: [
            Entity(name="e", value_type=ValueType.STRING, tags={"headwater.key": "e"}),
            view(),
        ],
        "entity 'e': tag 'headwater.key' is unknown; none of ours belongs here",
    ),
    # Sources.
    "no topic": (lambda: [view(source=source(topic=""))], "names no topic"),
    "created_timestamp_column": (
        lambda: [view(source=source(created_timestamp_column="opened"))],
        "created_timestamp_column cannot be executed",
    ),
    "a negative watermark delay": (
        lambda: [view(source=source(watermark_delay_threshold=-HOUR))],
        "it must be 0 or more",
    ),
    "a source's unknown tag": (
        lambda: [view(source=source(tags={"headwater.frame": "x"}))],
        "'headwater.frame' is unknown; known here are headwater.key, headwater.framing",
    ),
    "a key that is no column": (
        lambda: [view(source=source(tags={"headwater.key": "x"}))],
        "names 'x', which is no column; it has card, at",
    ),
    "a time that is no column": (
        lambda: [view(source=source(timestamp_field="x"), timestamp_field="x")],
        "timestamp_field 'x' is not a timestamp of its format; those are at, opened",
    ),
    "a format without times": (
        lambda: [view(source=source(message_format=JsonFormat("card string, at string")))],
        "not a timestamp of its format; add 'NAME timestamp not null' to it",
    ),
    "a schema that cannot be read": (
        lambda: [view(source=source(message_format=AvroFormat("{")))],
        "not JSON",
    ),
    "a topic described in two ways": (
        lambda: [
            view(),
            view(
                name="other",
                source=source(field_mapping={"shop": "s"}, batch_source=files(path="data/other")),
            ),
        ],
        "must agree in message_format, timestamp_field, .*, but that of 'other' differs in field_",
    ),
    # field_mapping.
    "an unknown field is mapped": (
        lambda: mapped({"x": "y"}),
        "its format has no column 'x'; the record's name goes first, one of card, at",
    ),
    "two fields become one": (
        lambda: mapped({"amount": "v", "items": "v"}),
        "two fields would be called 'v'",
    ),
    "a field becomes another": (
        lambda: mapped({"amount": "items"}),
        "two fields would be called 'items'",
    ),
    "a column that is no name": (lambda: mapped({"amount": "a b"}), "must be a plain name"),
    "the old name is used": (lambda: mapped({"amount": "value"}), "has no column 'amount'"),
    # Batch sources, where the rows of a view are kept.
    "batch: created_timestamp_column": (
        lambda: [view(source=source(batch_source=files(created_timestamp_column="c")))],
        "batch_source's created_timestamp_column cannot be executed",
    ),
    "batch: field_mapping": (
        lambda: [view(source=source(batch_source=files(field_mapping={"a": "b"})))],
        "batch_source's field_mapping cannot be executed",
    ),
    "batch: another time": (
        lambda: [view(source=source(batch_source=files(timestamp_field="at")))],
        "must be 'event_timestamp', whatever the stream's is called",
    ),
    "batch: far away": (
        lambda: [view(source=source(batch_source=files(path="s3://bucket/cards")))],
        "FileSource with a local folder",
    ),
    "batch: another format": (
        lambda: [view(source=source(batch_source=files(file_format=DeltaFormat())))],
        "must be ParquetFormat",
    ),
    "batch: a tag of ours": (
        lambda: [view(source=source(batch_source=files(tags={"headwater.offline": "false"})))],
        "its batch_source: tag 'headwater.offline' is unknown",
    ),
    # Services, where a model reads them, and models.
    "a batch view in a model": (
        lambda: served(view(), batch_view()),
        "has 'limits', which is not a stream feature view",
    ),
    "a BatchFeatureView in a model": (
        lambda: served(batch_view(BatchFeatureView, mode="python", udf=lambda rows: rows)),
        "has 'limits', which is not a stream feature view",
    ),
    "an on demand view in a model": (
        lambda: served(view(), on_demand_view()),
        "'demanded': its request field 'x' must be a float64 column of the spine 'payments'",
    ),
    "with_name": (
        lambda: served(v := view(), read=[v.with_name("x")]),
        "with_name and with_join_key",
    ),
    "with_join_key_map": (
        lambda: served(v := view(), read=[v.with_join_key_map({"card": "shop"})]),
        "with_join_key_map cannot be executed",
    ),
    "logging_config": (
        lambda: served(
            view(), logging_config=LoggingConfig(destination=FileLoggingDestination(path="logs"))
        ),
        "has a logging_config, which cannot be executed",
    ),
    "precompute_online": (
        lambda: served(view(), precompute_online=True),
        "precompute_online cannot be executed",
    ),
    "a tag of ours at a service": (
        lambda: served(view(), tags={"headwater.offline": "false"}),
        "feature service 'features': tag 'headwater.offline' is unknown",
    ),
    "a feature twice": (
        lambda: served(v := view(), read=[v, v[["spent"]]]),
        "a feature stands twice",
    ),
    "two services of one name": (
        lambda: [view(), service(), service()],
        "service 'features' is defined twice",
    ),
    "a time that is asked for": (
        lambda: [view(), service(), model(request=["event_timestamp"])],
        "'event_timestamp' is not a number, boolean or string",
    ),
    "a text as the default of a number": (
        lambda: [view(), service(), model(request=["amount"], defaults={"amount": "none"})],
        "the default of 'amount' is a text; it must be a number",
    ),
    "a number as the default of a text": (
        lambda: [view(), service(), model(request=["shop"], defaults={"shop": 1.0})],
        "the default of 'shop' must be a text",
    ),
    "a learner of columns that are not there": (
        lambda: [view(), service(), model(request=["amount"], learner=_choosy)],
        "there is no feature nothing; its vector has amount",
    ),
    "a learner that no graph can say": (
        lambda: [view(), service(), model(request=["amount"], learner=_by_neighbours)],
        "model 'abroad': KNNClassifier cannot be exported to ONNX",
    ),
    "a parameter that cannot be kept": (
        lambda: [view(), service(), model(request=["amount"], learner=_forgetful)],
        "model 'abroad': StandardScaler cannot be exported to ONNX: window_size=9 is not supp",
    ),
    "a segment that is no input": (
        lambda: [view(), service(), model(request=["amount"], segments=["shop"])],
        "segment 'shop' is neither a request field nor an entity key",
    ),
    "a segment of measures": (
        lambda: [view(), service(), model(request=["amount"], segments=["amount"])],
        "segment 'amount' is a float64; use a string",
    ),
    "an assignment by nothing": (
        lambda: [view(), service(), model(request=["amount"], assign_by="shop")],
        "assign_by 'shop' is neither a request field nor an entity key",
    ),
    "a regression by a classifier": (
        lambda: [view(), service(), model(request=["amount"], task="regression")],
        "task 'regression' and a learner that is a classifier do not go together",
    ),
    "no label": (
        lambda: [view(), service(), model(request=["amount"], label=None)],
        "has no label; only an anomaly detector",
    ),
    "shares that shrink": (
        lambda: [view(), service(), model(request=["amount"], rollout=Rollout(shares=(0.5, 0.1)))],
        "rollout shares must grow",
    ),
    "a rollout of nobody": (
        lambda: [view(), service(), model(request=["amount"], rollout=Rollout(shares=(0.0,)))],
        "rollout shares must be above 0",
    ),
    "a sure false alarm": (
        lambda: [view(), service(), model(request=["amount"], rollout=Rollout(false_alarm=1.0))],
        "rollout false_alarm must be above 0 and below 0.5",
    ),
    "a margin beyond all differences": (
        lambda: [view(), service(), model(request=["amount"], rollout=Rollout(margin=2.0))],
        "rollout margin must be 0 or more, and below 2",
    ),
    "a probation that ends before it begins": (
        lambda: [
            view(),
            service(),
            model(request=["amount"], rollout=Rollout(probation_labels=-1)),
        ],
        "rollout probation_labels must be 0 or more",
    ),
    "a rollout of an anomaly detector": (
        lambda: [
            view(),
            service(),
            model(
                request=["amount"],
                learner=anomaly.HalfSpaceTrees,
                label=None,
                rollout=Rollout(),
            ),
        ],
        "no rollout can compare them",
    ),
    "a label without timeout": (
        lambda: [view(), service(), model(request=["amount"], publish_every=ZERO)],
        "must be positive",
    ),
    "nothing to run": (lambda: [batch_view()], "no StreamFeatureView and no Model"),
}
