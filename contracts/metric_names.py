"""Names of all Prometheus metrics: one prefix, base units, never an entity id as a label.

The name says the unit (``_seconds``, ``_total``); the comment gives the labels in parentheses.
"""

from __future__ import annotations

from typing import Final

# Dataflow. Totals are those of the process since it started.
EVENTS: Final = "headwater_events_total"
"""Good records read."""
BAD_RECORDS: Final = "headwater_bad_records_total"
"""Records sent to dead-letter topics."""
LATE_EVENTS: Final = "headwater_late_events_total"
"""Events older than their partition's watermark when they came, once for every view."""
ONLINE_ROWS: Final = "headwater_online_rows_written_total"
"""Rows written to the online store."""
OFFLINE_ROWS: Final = "headwater_offline_rows_written_total"
"""Rows written to the offline tables, examples and outcomes included."""
LABELS: Final = "headwater_labels_total"
"""Predictions that got their label, over all models."""
MODEL_VERSIONS: Final = "headwater_model_versions_published_total"
"""Model versions published."""
WATERMARK: Final = "headwater_watermark_timestamp_seconds"
"""Event time that a stage has passed, seconds since 1970 (stage)."""

# Scorer; the first two have the names that gRPC middleware has made usual.
REQUESTS: Final = "grpc_server_handled_total"
"""Requests finished (grpc_method, grpc_code)."""
REQUEST_SECONDS: Final = "grpc_server_handling_seconds"
"""Time from a request's arrival to its answer (grpc_method)."""
IN_FLIGHT: Final = "headwater_scorer_requests_in_flight"
"""Requests that have been accepted and not answered yet."""
BATCH_ROWS: Final = "headwater_scorer_batch_rows"
"""Rows scored in one run of a model (model)."""
MISSING_FEATURES: Final = "headwater_scorer_missing_features_total"
"""Stored values that were missing, so that the default stood in (model, view)."""
FEATURE_READ_SECONDS: Final = "headwater_scorer_feature_read_seconds"
"""Time one read of the online store took."""
SWAPS: Final = "headwater_scorer_swaps_total"
"""Attempts to put a new model version into service (model, result: swapped or refused)."""
SWAP_SECONDS: Final = "headwater_scorer_swap_seconds"
"""Time from finding a new version to serving it, checks included (model)."""
PREDICTIONS_WRITTEN: Final = "headwater_scorer_predictions_written_total"
"""Scored requests that are in the prediction log."""
PREDICTIONS_DROPPED: Final = "headwater_scorer_predictions_dropped_total"
"""Scored requests that are not (reason: full, too_large, stopped or error)."""
PREDICTIONS_WAITING: Final = "headwater_scorer_predictions_waiting"
"""Scored requests that wait to be written."""
