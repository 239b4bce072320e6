"""`headwater evaluate` on a small repository."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path

from contracts.feature_schema import FeatureSchema
from contracts.plan_file import plan_path, read_plan
from tests.cli.rides import RIDES, Rides, asked
from tests.integration.commands import Commands


def _prediction(schema: FeatureSchema, number: int) -> bytes:
    """A record of the prediction log: a ride, scored when it was asked for."""
    at = str(asked(number)["event_timestamp"])
    row = {
        "inputs": {},
        "vector": [0.0] * len(schema.names),
        "missing": [],
        "oldest_feature_us": None,
        "newest_feature_us": None,
        "score": 0.5,
        "key": asked(number)["ride"],
    }
    record = {
        "request_id": f"request {number}",
        "event_timestamp": at,
        "model": "late_ride",
        "version": "1",
        "fingerprint": schema.fingerprint,
        "features": list(schema.names),
        "at_us": int(datetime.fromisoformat(at).timestamp()) * 1_000_000,
        "latency_ms": 1.0,
        "rows": [row],
    }
    return json.dumps(record).encode() + b"\n"


def test_served_rows_find_their_labels(ran: Rides, commands: Commands, tmp_path: Path) -> None:
    """Rows in the prediction log are joined with the labels of the repository, and evaluated."""
    copy = Rides(tmp_path / "feature_repo")
    shutil.copytree(ran.folder, copy.folder)
    model = read_plan(plan_path(ran.folder)).plan.model("late_ride")
    log = copy.folder / "data" / "log" / "predictions"
    # Another test may have scored with these files.
    shutil.rmtree(log, ignore_errors=True)
    log.mkdir()
    records = [_prediction(model.schema, number) for number in range(RIDES)]
    (log / "0.ndjson").write_bytes(b"".join(records))
    evaluated = copy.forked(commands, "evaluate", "--until-end")
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stdout.startswith(f"{RIDES} rows served, {RIDES} with labels, 0 ")
    again = copy.forked(commands, "evaluate", "--until-end")
    assert again.stdout == evaluated.stdout
