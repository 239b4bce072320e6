"""The dataflow's Prometheus endpoint."""

from __future__ import annotations

import json
import socket
import urllib.request
from dataclasses import asdict
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from contracts import metric_names as names
from dataflows.flow.errors import EngineError
from dataflows.flow.metrics import ProgressCollector, current_progress, metrics_endpoint
from dataflows.flow.progress import FOLDER, Progress
from dataflows.flow.run_context import PartitionProgress
from dataflows.watermark import NOT_YET


def _say(state: Path, worker: int, progress: Progress) -> None:
    (state / FOLDER).mkdir(exist_ok=True)
    (state / FOLDER / f"{worker}.json").write_text(json.dumps(asdict(progress)))


def _progress(watermark_us: int, counts: tuple[int, int, int, int, int, int, int]) -> Progress:
    partitions = {"orders/0": PartitionProgress(7, 5_000_000, is_idle=False)}
    return Progress(
        1, 8, watermark_us, *counts, seconds=1.0, partitions=partitions, waiting_for="",
        said_at_us=6_000_000,
    )  # fmt: skip


def _registry(state: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ProgressCollector(state))
    return registry


def test_totals_and_watermark_of_all_workers(tmp_path: Path) -> None:
    """Counts are the process's latest, and the watermark is that of the slowest worker."""
    _say(tmp_path, 0, _progress(5_000_000, (100, 3, 2, 50, 60, 7, 4)))
    _say(tmp_path, 1, _progress(4_500_000, (90, 3, 1, 40, 50, 6, 3)))
    registry = _registry(tmp_path)
    assert registry.get_sample_value(names.EVENTS) == 100
    assert registry.get_sample_value(names.BAD_RECORDS) == 3
    assert registry.get_sample_value(names.LATE_EVENTS) == 2
    assert registry.get_sample_value(names.ONLINE_ROWS) == 50
    assert registry.get_sample_value(names.OFFLINE_ROWS) == 60
    assert registry.get_sample_value(names.LABELS) == 7
    assert registry.get_sample_value(names.MODEL_VERSIONS) == 4
    assert registry.get_sample_value(names.WATERMARK, {"stage": "online"}) == 4.5


def test_nothing_known_is_nothing_shown(tmp_path: Path) -> None:
    """Before the first progress there are no metrics, and no watermark before the first one."""
    registry = _registry(tmp_path)
    assert current_progress(tmp_path) == []
    assert registry.get_sample_value(names.EVENTS) is None
    _say(tmp_path, 0, _progress(NOT_YET, (1, 0, 0, 0, 0, 0, 0)))
    assert registry.get_sample_value(names.EVENTS) == 1
    assert registry.get_sample_value(names.WATERMARK, {"stage": "online"}) is None


def test_the_endpoint_lives_as_long_as_the_run(tmp_path: Path) -> None:
    """The address answers inside the context, is free behind it, and a taken one is named."""
    _say(tmp_path, 0, _progress(0, (7, 0, 0, 0, 0, 0, 0)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(EngineError, match="HEADWATER_METRICS_ADDRESS"),
            metrics_endpoint(address, tmp_path),
        ):
            pass
    with (
        metrics_endpoint(address, tmp_path),
        urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page,
    ):
        assert f"{names.EVENTS} 7.0" in page.read().decode()
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) != 0


def test_no_address_is_no_endpoint(tmp_path: Path) -> None:
    """An empty address starts nothing."""
    with metrics_endpoint("", tmp_path):
        pass
