"""The evaluator's metrics page."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import pytest

from contracts.file_log import ensure_topic
from dataflows.served.evaluator import Evaluator
from dataflows.served.metrics import evaluator_endpoint
from dataflows.served.state import EvaluatorError
from tests.served.world import BEGIN_US, MODEL, SECOND_US, World, label, plan_of, record
from tests.services.server import free_ports


def test_counts_and_figures_are_shown(tmp_path: Path) -> None:
    """Records, rows, labels, decisions, the rollout's step, and figures of what serves, once."""
    world = World(tmp_path)
    world.publish("1", "2")
    world.repository.set_channel(MODEL, "shadow", "1", "in two channels", "test", 2)
    ensure_topic(tmp_path / "log", "outcomes")
    world.write("predictions", [record(f"o{i}", "1", 0.25) for i in range(5)] + [b"?"])
    known = [label(f"o{i}", 1.0, BEGIN_US + SECOND_US) for i in range(3)]
    world.write("outcomes", [*known, known[0], label("nobody", 1.0, BEGIN_US)])
    evaluator = Evaluator(plan_of(), world.settings(), threading.Event(), lambda _: None)
    evaluator.run(until_end=True)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with evaluator_endpoint(address, evaluator):
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            shown = answer.read().decode().splitlines()
        with pytest.raises(EvaluatorError, match="HEADWATER_METRICS_ADDRESS"):
            evaluator_endpoint(address, evaluator).__enter__()
    for line in (
        'headwater_evaluator_records_total{result="used"} 5.0',
        'headwater_evaluator_records_total{result="broken"} 1.0',
        'headwater_evaluator_rows_total{model="fraud",result="joined"} 3.0',
        'headwater_evaluator_labels_total{model="fraud",result="repeated"} 1.0',
        'headwater_evaluator_rows_waiting{model="fraud"} 2.0',
        'headwater_evaluator_decisions_total{action="set",model="fraud"} 1.0',
        'headwater_evaluator_rollout_step{model="fraud"} 1.0',
        'headwater_served_metric{metric="outcomes",model="fraud",version="1"} 3.0',
    ):
        assert shown.count(line) == 1
