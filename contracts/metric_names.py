"""Names of all Prometheus metrics: one prefix, base units, never an entity id as a label.

The name says the unit (``_seconds``, ``_total``); the comment gives the labels in parentheses.
"""

from __future__ import annotations

from typing import Final

# Dataflow: what came in.
EVENTS: Final = "headwater_events_total"
"""Records decoded (topic)."""
BAD_RECORDS: Final = "headwater_bad_records_total"
"""Records sent to the dead-letter topic (topic)."""
LATE_EVENTS: Final = "headwater_late_events_total"
"""Events older than the watermark when they came (view)."""
EXPIRED_EVENTS: Final = "headwater_expired_events_total"
"""Late events older than every window, so that they changed nothing (view)."""
EVENTS_BEHIND: Final = "headwater_events_behind"
"""Records in the log that have not been read yet (topic)."""

# Dataflow: how far event time has come.
WATERMARK: Final = "headwater_watermark_timestamp_seconds"
"""Event time that a stage has passed, seconds since 1970 (stage)."""
ROWS_HELD: Final = "headwater_rows_held"
"""Rows waiting in a stage for the watermark (stage)."""

# Dataflow: what went out.
ONLINE_ROWS: Final = "headwater_online_rows_written_total"
"""Rows written to the online store (view)."""
OFFLINE_ROWS: Final = "headwater_offline_rows_written_total"
"""Rows written to the offline store (view)."""
EXAMPLES: Final = "headwater_examples_written_total"
"""Joined vectors written to the examples (model)."""
STORE_WRITE_SECONDS: Final = "headwater_store_write_seconds"
"""Time one write to a store took (store)."""

# Dataflow: epochs and state.
EPOCHS: Final = "headwater_epochs_total"
"""Epochs finished."""
EPOCH_SNAPSHOT_SECONDS: Final = "headwater_epoch_snapshot_seconds"
"""Time a stage took to write its state at the end of an epoch (stage)."""
STATE_BYTES: Final = "headwater_state_bytes"
"""Size of the state files that a resume would read (stage)."""

# Learning.
LABELS: Final = "headwater_labels_total"
"""Predictions that got their label (model)."""
LABELS_TIMED_OUT: Final = "headwater_labels_timed_out_total"
"""Predictions given up because no label came in time (model)."""
LEARNER_SCORE: Final = "headwater_learner_score"
"""Progressive metric of a learner, and of its baseline (model, metric)."""
MODEL_VERSIONS: Final = "headwater_model_versions_published_total"
"""Model versions published (model)."""

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
