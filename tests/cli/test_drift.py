"""`headwater models drift` tells people and programs where a model stands."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from cli.main import app
from contracts.drift_record import DriftAlert, DriftFigure, DriftReport, report_path
from tests.cli.rides import Rides
from tests.integration.commands import Commands

ALERT = DriftAlert(
    event_timestamp="2013-01-02T00:00:00.000000Z", model="m", kind="ks", feature="distance",
    state="begin", value=0.25, threshold=0.1, p_value=1e-9, rows=990,
    window_from_us=1_357_000_000_000_000, window_until_us=1_357_084_800_000_000,
    reference_rows=8_000, reference_from_us=0, reference_until_us=1_000_000,
).identified()  # fmt: skip
REPORT = DriftReport(
    model="m",
    rows=20_000,
    rows_until_watched=0,
    labels=900,
    labels_until_watched=6_100,
    looks=41,
    figures=(
        DriftFigure(
            kind="error", feature="", value=None, threshold=0.0, p_value=None, since_us=None
        ),
        DriftFigure(
            kind="ks", feature="distance", value=0.25, threshold=0.1, p_value=1e-9,
            since_us=ALERT.window_until_us,
        ),
    ),
    alerts=(ALERT,),
)  # fmt: skip


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model repository with the report of one model."""
    path = report_path(tmp_path, "m")
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(REPORT))
    monkeypatch.setenv("HEADWATER_MODEL_REPOSITORY", str(tmp_path))
    return tmp_path


def _asked(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", "drift", *arguments])
    assert result.exit_code == 0, result.exception
    return result.stdout


def test_for_people(models: Path) -> None:
    """What has drifted stands first, then the rest; then the alerts."""
    lines = _asked("m").splitlines()
    assert "labels\t900 (6,100 more until all is watched)" in lines
    at = lines.index("ks\tdistance\t0.2500\t0.1000\t1.0e-09\t2013-01-02 00:00:00")
    assert lines[at + 1] == "error\t-\t-\t0.0000\t-\t-"
    assert lines[-1] == "begin\tks\tdistance\t0.2500\t0.1000\t2013-01-02 00:00:00"


def test_of_a_model_without_labels_none_are_waited_for(models: Path) -> None:
    """Where errors are not watched nothing is said of labels."""
    silent = msgspec.structs.replace(REPORT, figures=REPORT.figures[1:], labels_until_watched=0)
    report_path(models, "m").write_bytes(msgspec.json.encode(silent))
    assert "labels" not in _asked("m")


def test_for_programs(models: Path) -> None:
    """The JSON is the report."""
    assert msgspec.convert(json.loads(_asked("m", "--json")), DriftReport) == REPORT


@pytest.mark.parametrize(
    ("model", "content", "problem"),
    [
        ("other", None, "no model 'other'"),
        ("n", None, "has no drift report yet"),
        ("n", b"{", "cannot be read"),
    ],
)
def test_what_is_not_there(models: Path, model: str, content: bytes | None, problem: str) -> None:
    """A model or a report that is missing or damaged is said to be so."""
    (models / "n").mkdir()
    if content is not None:
        report_path(models, "n").parent.mkdir()
        report_path(models, "n").write_bytes(content)
    result = CliRunner().invoke(app, ["models", "drift", model])
    assert result.exit_code == 1
    assert problem in str(result.exception)


def test_after_a_run(ran: Rides, commands: Commands) -> None:
    """Each model that has run has a report, whether enough has come in or not."""
    result = ran.forked(commands, "models", "drift", "late_ride", "--json")
    report = msgspec.json.decode(result.stdout, type=DriftReport)
    assert report.rows > 0
    assert report.looks == 0
