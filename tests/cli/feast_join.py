"""Joins the demo's features to its flights with Feast's own point-in-time join.

Run as a process of its own: ``feast_join.py REPO ANSWER.parquet``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
from feast import FeatureStore


def join(repo: Path) -> pd.DataFrame:
    """Feast's features of every example, and ours with ``ours__`` before their names."""
    examples = ds.dataset(repo / "data" / "examples" / "late_arrival" / "examples").to_table()
    ours = examples.to_pandas()
    scheduled = pd.read_json(repo / "data" / "log" / "flights.scheduled" / "0.ndjson", lines=True)
    keys = scheduled[["flight_id", "tailnum", "origin", "carrier", "dest"]]
    spine = ours[["flight_id", "event_timestamp"]].merge(keys, on="flight_id")
    store = FeatureStore(repo_path=str(repo))
    service = store.get_feature_service("late_arrival")
    features = [
        f"{projection.name}:{feature.name}"
        for projection in service.feature_view_projections
        for feature in projection.features
    ]
    joined = spine
    for projection in service.feature_view_projections:
        view = store.get_stream_feature_view(projection.name)
        wanted = [name for name in features if name.startswith(f"{projection.name}:")]
        # Feast's local store answers only one of several rows with one key and time, and drops
        # rows without a match: both are made good here.
        on = [*view.join_keys, "event_timestamp"]
        asked = spine[on].dropna().drop_duplicates()
        found = store.get_historical_features(asked, wanted, full_feature_names=True).to_df()
        columns = [*on, *(name.replace(":", "__") for name in wanted)]
        joined = joined.merge(found[columns], on=on, how="left")
    for name in features:
        column = name.replace(":", "__")
        joined[f"ours__{column}"] = (
            ours.set_index("flight_id")[column].reindex(joined["flight_id"]).to_numpy()
        )
    return joined


if __name__ == "__main__":
    join(Path(sys.argv[1])).to_parquet(sys.argv[2])
