"""`headwater train` on the examples of a real run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli.main import main
from cli.train import LearnerName
from contracts.manifest import Manifest
from contracts.model_repository import ModelRepository
from contracts.plan import RolloutPlan
from contracts.plan_file import plan_path, read_plan, write_plan
from dataflows.served.rollout import Situation, next_challenger
from dataflows.training.learners import NAMES
from scorer.model import LoadedModel
from tests.cli.rides import SECONDS_MAX, Rides
from tests.integration.commands import Commands

QUICKLY = ("--trials", "2", "--learner", "sklearn-linear")


@pytest.fixture
def rides_with_examples(ran: Rides, tmp_path: Path) -> Rides:
    """A copy of the repository that was run, to publish into."""
    shutil.copytree(ran.folder, tmp_path / "feature_repo")
    return Rides(tmp_path / "feature_repo")


def _repository(rides: Rides) -> ModelRepository:
    return ModelRepository(rides.folder / "data" / "models")


def test_a_version_comes_out(rides_with_examples: Rides, commands: Commands) -> None:
    """The command publishes a challenger that the scorer loads, and prints what it is worth."""
    result = rides_with_examples.forked(commands, "train", "late_ride", *QUICKLY)
    assert result.returncode == 0, result.stderr
    assert "late_ride: version b1 is challenger and has no share of the requests" in result.stdout
    facts = dict(line.split("\t") for line in result.stdout.splitlines() if "\t" in line)
    repository = _repository(rides_with_examples)
    manifest, onnx = repository.load("late_ride", "b1")
    assert facts["metric auc"] == f"{manifest.metrics['auc']:.6g}"
    assert facts["parameters"] == "best of 2, 0 of them given up early"
    channels = repository.channels("late_ride")
    assert channels.challenger == "b1"
    assert manifest.parent == channels.champion
    assert manifest.parity["max_abs_diff"] <= 1e-9
    scores = LoadedModel(manifest, onnx).run(np.random.default_rng(0).normal(size=(50, 4)))
    assert len(np.unique(scores)) > 10
    shown = rides_with_examples.forked(commands, "models", "show", "late_ride", "b1", "--json")
    assert Manifest.from_json(shown.stdout).lineage["kind"] == "batch"


def _here(rides: Rides, *words: str) -> int:
    """Run the command in this process, which has the libraries already; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["train", *words, "--repo", str(rides.folder), *QUICKLY])
    return int(ended.value.code or 0)


def test_the_same_again_into_another_channel(rides_with_examples: Rides) -> None:
    """The same wishes give the same bytes under the next number, and `none` moves no channel."""
    for _ in range(2):
        words = ("late_ride", "--channel", "none", "--seed", "3")
        assert _here(rides_with_examples, *words) == 0
    repository = _repository(rides_with_examples)
    (first, onnx), (again, other) = (repository.load("late_ride", f"b{n}") for n in (1, 2))
    assert onnx == other
    assert first.lineage == again.lineage
    assert json.loads(first.lineage["trials"]) == {"done": 2, "pruned": 0}
    assert repository.channels("late_ride").challenger is None


def test_a_model_with_a_rollout(rides_with_examples: Rides) -> None:
    """Its version stands in no channel, and is what the evaluator tries next."""
    file = plan_path(rides_with_examples.folder)
    applied = read_plan(file)
    (model,) = applied.plan.models
    rollout = RolloutPlan((0.1, 0.5), 100, 0.0, 0.01, 0)
    plan = replace(applied.plan, models=(replace(model, rollout=rollout),))
    write_plan(file, plan, applied.services)
    assert _here(rides_with_examples, "late_ride") == 0
    repository = _repository(rides_with_examples)
    channels = repository.channels("late_ride")
    assert channels.challenger is None
    versions, audit = repository.versions("late_ride"), repository.audit("late_ride")
    assert next_challenger(Situation(channels, versions, audit), ()) == "b1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["late_rides"], "there is no model 'late_rides'; the repository has: late_ride"),
        (["late_ride", "--from", "2030-01-01"], "no labelled examples in that time"),
        (["late_ride", "--test-from", "2030-01-01"], "labelled examples are left to"),
        (["late_ride", "--segments", "city"], "outcomes have no segment 'city'; add it to"),
        (["late_ride", "--from", "yesterday"], "'yesterday' does not match"),
    ],
)
def test_what_cannot_be_done(
    ran: Rides, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each refusal is one line that says what to do, and publishes nothing."""
    assert _here(ran, *words) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert "b1" not in _repository(ran).versions("late_ride")


def test_a_detector_is_not_trained(
    rides_with_examples: Rides, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An anomaly model is refused as one, and not for the labels that it cannot have."""
    file = plan_path(rides_with_examples.folder)
    applied = read_plan(file)
    (model,) = applied.plan.models
    detector = replace(model, task="anomaly")
    write_plan(file, replace(applied.plan, models=(detector,)), applied.services)
    monkeypatch.setenv("HEADWATER_EXAMPLES_DIR", str(rides_with_examples.folder / "nowhere"))
    assert _here(rides_with_examples, "late_ride") == 1
    assert "is an anomaly detector" in capsys.readouterr().err


def test_without_the_extra(ran: Rides) -> None:
    """Without the libraries the command says what to install, and others work."""
    code = (
        "import sys; sys.modules.update(lightgbm=None, optuna=None, sklearn=None);"
        "from cli.main import main; main(['train', 'late_ride'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ran.folder,
        env=ran.environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert result.returncode == 1
    assert "pip install 'headwater[train]'" in result.stderr
    assert "defect" not in result.stderr


def test_all_learners_can_be_named() -> None:
    """The command knows the learners that there are."""
    assert {name.value for name in LearnerName} == set(NAMES)
