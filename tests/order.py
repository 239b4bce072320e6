"""Which test files come first when several processes share them."""

from __future__ import annotations

# What takes a quarter of a minute and more, the longest first: one of these, begun last, would be
# waited for by a single process.
LONGEST = (
    "tests/cli/test_demo.py",
    "tests/conformance/test_offline_join.py",
    "tests/integration/test_kafka_outage.py",
    "tests/integration/test_redis_outage.py",
    "tests/integration/test_replay_is_live.py",
    "tests/integration/test_disasters.py",
    "tests/integration/test_kills.py",
    "tests/replay/test_beside.py",
    "tests/replay/test_cut_over.py",
    "tests/replay/test_parts.py",
    "tests/cli/test_whole_path.py",
    "tests/flow/test_every_kind.py",
    "tests/flow/test_crashes.py",
    "tests/flow/test_flow.py",
    "tests/integration/test_kafka_dead_letters.py",
    "tests/integration/test_determinism.py",
    "tests/integration/test_equality.py",
    "tests/replay_state/test_graft.py",
    "tests/datasets/test_commands.py",
    "tests/integration/test_archive.py",
    "tests/integration/test_compose.py",
    "tests/cli/test_produce.py",
    "tests/cli/test_status.py",
    "tests/sources/test_kafka_outage.py",
    "tests/contracts/test_kafka_producer.py",
    "tests/contracts/test_kafka_client.py",
    "tests/services/test_servers.py",
    "tests/definitions/test_transforms.py",
    "tests/definitions/test_transform_code.py",
    "tests/sources/test_formats.py",
    "tests/registry/test_mlflow.py",
    "tests/river_onnx/test_forests.py",
)
