"""Drift in the flow: the same alerts whatever the batches, the workers and the kills."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from contracts import metric_names as names
from contracts.drift_record import DRIFT_TOPIC, DriftAlert, read_report
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.drift_metrics import DriftCollector
from dataflows.flow.engine import run_flow
from tests.flow import shop
from tests.flow.processes import Runner, wait_for_events
from tests.integration.commands import Commands

MODEL = "late_order"
DRIFT = (
    "drift=Drift(window_rows=100, reference_rows=200, warmup_rows=0, false_alarm=0.5), "
    "publish_every=timedelta(minutes=30),"
)
DEFINITIONS = shop.DEFINITIONS.replace("import Label, Model", "import Drift, Label, Model").replace(
    "publish_every=timedelta(minutes=30),", DRIFT
)
# From this order on people buy for more.
CHANGE_AT = 550
# From this one on every other order is late, where all were before.
LABELS_CHANGE_AT = 300


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The shop, with small windows."""
    folder = tmp_path_factory.mktemp("repository")
    return load_repository(shop.make_repository(folder, DEFINITIONS))


@pytest.fixture(scope="module")
def records() -> list[shop.Record]:
    """The shop's records, with planted drift."""
    return [_changed(record) for record in shop.make_records(seed=7, orders=800)]


@pytest.fixture(scope="module")
def runner(repository: Repository, commands: Commands) -> Iterator[Runner]:
    """One runner for the tests of this module."""
    started = Runner(commands, repository.directory)
    yield started
    started.close()


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, repository: Repository, records: list[shop.Record]
) -> tuple[bytes, Path]:
    """The alerts of one run over all of the log, and what it left; for looking at only."""
    folder = tmp_path_factory.mktemp("first")
    log = shop.write_log(folder / "log", records)
    _run(repository, log, folder / "out")
    return _alerts(log), folder / "out"


@pytest.fixture
def log(tmp_path: Path, records: list[shop.Record]) -> Path:
    """A fresh copy of the log."""
    return shop.write_log(tmp_path / "log", records)


def _changed(record: shop.Record) -> shop.Record:
    fields = record.fields
    if fields is None or "order_id" not in fields:
        return record
    changed = dict(fields)
    order = int(changed["order_id"][1:])
    if order >= CHANGE_AT and changed.get("amount") is not None:
        changed["amount"] += 30.0
    if "days" in changed:
        changed["days"] = 9.0 * (order % 2) if order >= LABELS_CHANGE_AT else 9.0
    line = json.dumps({name: changed[name] for name in changed if name != "event_us"}).encode()
    return replace(record, line=line, fields=changed)


def _run(repository: Repository, log: Path, out: Path, **given: Any) -> None:
    settings = shop.settings(repository.directory, log, out, **given)
    run_flow(repository, settings, shop.places(out), until_end=True)


def _alerts(log: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (log / DRIFT_TOPIC).glob("*.ndjson"))


def test_planted_drift_is_told(first: tuple[bytes, Path]) -> None:
    """The amounts and the sums of them have drifted soon after the change, and nothing before."""
    alerts = [msgspec.json.decode(line, type=DriftAlert) for line in first[0].splitlines()]
    begun = {(alert.kind, alert.feature) for alert in alerts if alert.state == "begin"}
    assert {("ks", "amount"), ("ks", "user_orders:spent_20m"), ("error", "")} <= begun
    assert not {feature for _, feature in begun} & {"user_visits:seconds", "user_visits:pages"}
    change_us = shop.BEGIN_US + CHANGE_AT * 14 * shop.SECOND_US
    (amount,) = (one for one in alerts if (one.kind, one.feature) == ("ks", "amount"))
    assert change_us < amount.window_until_us < change_us + 100 * 14 * shop.SECOND_US
    assert [alert.window_until_us for alert in alerts] == sorted(
        alert.window_until_us for alert in alerts
    )
    assert all(alert.model == MODEL and alert.identified() == alert for alert in alerts)
    assert len({alert.id for alert in alerts}) == len(alerts)


def test_the_report_and_the_metrics(first: tuple[bytes, Path]) -> None:
    """The report says the same as the alerts, and the metrics the same as the report."""
    root = first[1] / "models"
    report = read_report(root, MODEL)
    assert report is not None
    assert (report.model, report.rows_until_watched) == (MODEL, 0)
    alerts = [msgspec.json.decode(line, type=DriftAlert) for line in first[0].splitlines()]
    assert list(report.alerts) == alerts[-len(report.alerts) :]
    registry = CollectorRegistry()
    registry.register(DriftCollector(root, [MODEL, "another"]))
    for figure in report.figures:
        labels = {"model": MODEL, "feature": figure.feature, "kind": figure.kind}
        active = 0.0 if figure.since_us is None else 1.0
        assert registry.get_sample_value(names.DRIFT_ALERT, labels) == active
        assert registry.get_sample_value(names.DRIFT_VALUE, labels) == figure.value
    labels = {"model": MODEL, "feature": "amount", "kind": "ks"}
    assert registry.get_sample_value(names.DRIFT_ALERT, labels) == 1.0


@pytest.mark.parametrize("given", [{"batch_bytes": 2_500}, {"workers": 2, "epoch_seconds": 0.0}])
def test_however_the_log_is_read(
    first: tuple[bytes, Path], repository: Repository, log: Path, tmp_path: Path,
    given: dict[str, Any],
) -> None:  # fmt: skip
    """Small batches and several workers give the same alerts, byte for byte, and report."""
    out = tmp_path / "out"
    _run(repository, log, out, **given)
    assert _alerts(log) == first[0]
    assert read_report(out / "models", MODEL) == read_report(first[1] / "models", MODEL)
    # Once more from the start: the log of alerts has them all already.
    _run(repository, log, tmp_path / "again", **given)
    assert _alerts(log) == first[0]


def test_kills_leave_no_trace(
    first: tuple[bytes, Path], log: Path, tmp_path: Path, runner: Runner
) -> None:
    """Killed at random moments and started again, each alert is there once, in order."""
    rng = random.Random(5)
    out = tmp_path / "out"
    given = {"batch_bytes": 3_000, "epoch_seconds": 0.01}
    kills = 0
    for _ in range(5):
        pid = runner.start(log, out, 1, **given)
        if wait_for_events(out, rng.randrange(200, 1_200), pid):
            time.sleep(rng.random() * 0.05)
            with suppress(ProcessLookupError):  # it may have come to its end meanwhile
                os.kill(pid, signal.SIGKILL)
        code, error = runner.ended()
        assert code in (0, -signal.SIGKILL), error
        kills += code != 0
    assert kills >= 2
    runner.start(log, out, 1, **given)
    assert runner.ended() == (0, "")
    assert _alerts(log) == first[0]
    assert read_report(out / "models", MODEL) == read_report(first[1] / "models", MODEL)


def test_settings_may_change(
    first: tuple[bytes, Path], repository: Repository, log: Path, tmp_path: Path
) -> None:
    """With other settings of drift the run goes on, and only drift begins anew."""
    out = tmp_path / "out"
    _run(repository, log, out)
    other = DEFINITIONS.replace("window_rows=100,", "window_rows=100, ks=0.9,")
    folder = shop.make_repository(tmp_path / "other", other)
    _run(load_repository(folder), log, out)
    assert _alerts(log) == first[0]
