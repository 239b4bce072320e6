"""The benchmark's stored features as plain Feast views over the same Redis.

    python -m benchmarks.scorer.feast_repo FOLDER

Applies them to the registry of the repository in FOLDER; the store already has the values.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

from benchmarks._scorer_world import JOIN_KEYS, feature_names

_TYPES = {"int64": (ValueType.INT64, Int64), "string": (ValueType.STRING, String)}


def apply(folder: str) -> None:
    """Register entities and views."""
    objects: list[Any] = []
    for join_key, kind in JOIN_KEYS.items():
        value_type, field_type = _TYPES[kind]
        entity = Entity(name=join_key, join_keys=[join_key], value_type=value_type)
        view = FeatureView(
            name=f"{join_key}_latest",
            entities=[entity],
            schema=[
                Field(name=join_key, dtype=field_type),
                *(Field(name=name, dtype=Float64) for name in feature_names()),
            ],
            source=FileSource(path="never_read.parquet", timestamp_field="event_timestamp"),
            ttl=timedelta(0),
        )
        objects += [entity, view]
    FeatureStore(repo_path=folder).apply(objects)


if __name__ == "__main__":
    apply(sys.argv[1])
