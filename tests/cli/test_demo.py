"""The demo's whole path on four real days: history, dataflow, scorer, player, report, replay."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pyarrow.dataset as ds
import pytest
from google.protobuf.json_format import ParseDict
from rich.console import Console

from cli.demo.batch import compare_batch_with_online
from cli.demo.flights import files_in
from cli.demo.player import Pace
from cli.demo.processes import Process, free_address
from cli.demo.stage import run_demo
from contracts.model_repository import ModelRepository
from dataflows.changes import rate
from scorer.client import ClientOptions, Retries, ScorerClient
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from tests.cli.readme import command_line, python_block
from tests.integration.commands import Commands
from tests.training.worlds import plan_of

ROOT = Path(__file__).parents[2]
SLICE = ROOT / "tests" / "data" / "flights2013"
PATIENT = Retries(tries_max=1_000)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo of which a day was played waiting, and a day at a pace."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    pace = Pace(days=2, waiting_days=1, time_lapse=20_000.0)
    with pytest.MonkeyPatch.context() as patched:
        # So that days count for as much as the year.
        patched.setattr(rate, "EVENTS_MIN", 1_000)
        patched.setattr(rate, "SECONDS_MIN", 0.0)
        run_demo(folder, ROOT / "feature_repo", files_in(SLICE), Console(stderr=True), pace)
    return folder


@pytest.fixture(scope="module")
def report(output: Path) -> dict[str, Any]:
    """``report.json``."""
    content: dict[str, Any] = json.loads((output / "report.json").read_text())
    return content


def test_everything_was_read_and_learned(report: dict[str, Any]) -> None:
    """Every record is an event, every arrival a learned example (but for the last moment's)."""
    with (SLICE / "flights.csv").open() as file:
        flights = list(csv.DictReader(file))
    departed = sum(flight["dep_delay"] != "NA" for flight in flights)
    arrived = sum(flight["arr_delay"] != "NA" for flight in flights)
    assert report["flights"] == len(flights) == 3335
    assert report["events"] == len(flights) + departed + arrived + 288
    assert arrived - 2 <= report["online_examples"] <= arrived


def test_a_plan_can_say_how_long_a_replay_takes(output: Path, report: dict[str, Any]) -> None:
    """How fast the history was read is noted where `headwater plan` looks."""
    known = rate.known_rate(output / "feature_repo" / "data" / "state")
    assert known
    assert round(known.events_per_second, 1) == report["events_per_second"]
    assert 1_000 < known.events < report["events"]
    assert (known.models, known.workers) == (2, 1)


def test_served_vectors_are_the_dataflows_own(report: dict[str, Any]) -> None:
    """Waiting for the watermark everything is equal; without it nothing is worse than stale."""
    waited, all_ = report["waited"], report["served_vs_dataflow"]
    assert waited["compared"] > 500
    assert waited["equal"] == waited["compared"]
    assert all_["compared"] == report["scores"]
    assert all_["different"] == 0


def test_a_replay_says_what_was_served(report: dict[str, Any]) -> None:
    """`headwater verify` compares all that was served, with the same verdict."""
    verified, served = report["verified"], report["served_vs_dataflow"]
    assert verified == served
    assert verified["different"] == 0


def test_the_model_was_swapped_while_it_served(report: dict[str, Any]) -> None:
    """The client saw several versions, and each is River to the ninth digit."""
    assert report["versions_served"] >= 2
    assert report["onnx_parity_max_abs_diff"] <= 1e-9


def test_a_picture_stands_beside_the_report(output: Path) -> None:
    """The rolling AUC is drawn."""
    assert (output / "auc.png").read_bytes().startswith(b"\x89PNG")


def test_batch_training_against_the_stream(report: dict[str, Any], output: Path) -> None:
    """A batch-trained champion was challenged by the dataflow's version, and the policy decided."""
    batch = report["batch"]
    assert batch["skipped"] == ""
    assert batch["trained"]["version"] == batch["rollout"]["champion"] == "b1"
    assert batch["trained"]["onnx_parity_max_abs_diff"] <= 1e-9
    assert 0.6 < batch["trained"]["auc"] < 1
    assert batch["rollout"]["steps"][0] == 0.05
    models = ModelRepository(output / "feature_repo" / "data" / "models")
    manifest, _ = models.load("late_arrival", "b1")
    assert manifest.examples == batch["trained"]["examples"] > 500
    decisions = [entry for entry in models.audit("late_arrival") if entry.actor == "evaluator"]
    assert decisions[0].version == batch["rollout"]["challenger"]
    assert models.channels("late_arrival").champion in ("b1", batch["rollout"]["challenger"])


def test_the_demo_goes_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LightGBM the demo says what to install, and touches nothing."""
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.delitem(sys.modules, "dataflows.training.lightgbm_learner", raising=False)
    plan = plan_of()
    models = ModelRepository(tmp_path / "models")
    found = compare_batch_with_online(plan, tmp_path, models, 0, frozenset(), lambda: 0)
    assert "pip install 'headwater[train]'" in found.skipped
    assert found.trained is None
    assert models.models() == []


def test_the_readme_calls_the_scorer(output: Path, tmp_path: Path) -> None:
    """README's lines of Python and its line for grpcurl work as printed, and give one score."""
    address = free_address()
    settings = {"HEADWATER_SCORER_ADDRESS": address}
    server = Process("serve", output / "feature_repo", tmp_path / "serve.log", settings)
    try:
        with ScorerClient(address, 60.0, options=ClientOptions(PATIENT)) as client:
            assert client.models()
        code = python_block("ScorerClient", address)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        score = float(done.stdout)
        assert 0 < score < 1
        words = command_line("grpcurl", address)
        request = ParseDict(json.loads(words[words.index("-d") + 1]), scorer_pb2.ScoreRequest())
        with grpc.insecure_channel(address) as channel:
            answer = scorer_pb2_grpc.ScorerServiceStub(channel).Score(request, timeout=60)
        assert [one.score for one in answer.scores] == [score]
        assert words[-1] == "scorer.v1.ScorerService/Score"
        if shutil.which("grpcurl"):
            told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
            assert json.loads(told.stdout)["scores"][0]["score"] == score
    finally:
        server.kill()


def test_feast_joins_what_the_dataflow_joined(output: Path, tmp_path: Path) -> None:
    """Feast's point-in-time join over the offline files equals the examples, row by row."""
    answer = tmp_path / "joined.parquet"
    script = Path(__file__).with_name("feast_join.py")
    repo = output / "feature_repo"
    subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(repo), str(answer)],
        check=True,
        timeout=110,
    )
    joined = ds.dataset(answer).to_table().to_pandas()
    assert len(joined) > 3000
    for name in (column for column in joined.columns if column.startswith("ours__")):
        ours, theirs = joined[name], joined[name.removeprefix("ours__")].astype("float64")
        same = (ours == theirs) | (ours.isna() & theirs.isna())
        assert same.all(), joined[~same][["flight_id", name, name.removeprefix("ours__")]].head()


def test_replay_rebuilds_the_same(output: Path, tmp_path: Path, commands: Commands) -> None:
    """What a replay builds from the log has the digest of the run that it replays."""
    repo = tmp_path / "feature_repo"
    shutil.copytree(ROOT / "feature_repo", repo, ignore=shutil.ignore_patterns("data"))
    shutil.copytree(output / "feature_repo" / "data" / "log", repo / "data" / "log")
    commands.run(repo, "run", "--until-end", seconds=110).check_returncode()
    replayed = commands.run(repo, "replay", seconds=110)
    replayed.check_returncode()
    verdicts = {line.split()[0]: line for line in replayed.stdout.splitlines()[1:]}
    assert set(verdicts) == {"online", "offline", "examples", "models"}
    for line in verdicts.values():
        assert "as before" in line, replayed.stdout
