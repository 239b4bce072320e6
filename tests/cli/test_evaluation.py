"""`headwater models evaluation` on files that a board has filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.main import main
from contracts.evaluation_file import evaluation_file, write_evaluation
from contracts.model_spec import Task
from dataflows.evaluation.board import EvaluationBoard
from tests.evaluation.rows import CLASSES, SECOND_US, TASKS, make


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model repository with one model of each task, without any version."""
    for task in TASKS:
        board = EvaluationBoard(task, ["carrier"], 100 * SECOND_US)
        carriers: list[str | None] = [None, *(f"c{row % 3}" for row in range(399))]
        board.add(make(task, 400), np.arange(400) // 150, [carriers])
        write_evaluation(evaluation_file(tmp_path, task, "pipeline"), task, board.report(CLASSES))
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("HEADWATER_MODEL_REPOSITORY", str(tmp_path))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str, str]:
    """Exit code, output and errors of a command."""
    with pytest.raises(SystemExit) as ended:
        main(["models", "evaluation", *words])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize("task", TASKS)
def test_a_line_for_each_version(
    models: Path, capsys: pytest.CaptureFixture[str], task: Task
) -> None:
    """Versions come oldest first, then the newest labels and all of them."""
    code, out, _ = run(capsys, task)
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert [(row[0], row[1]) for row in rows] == [
        ("version", "labels"), ("none", "150"), ("1", "150"), ("2", "100"), ("recent", "200"),
        ("all", "400"),
    ]  # fmt: skip
    assert all(len(row) == len(rows[0]) for row in rows)
    assert any(name.startswith("baseline") for name in rows[0])


def test_a_line_for_each_value(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a segment its values come, those with most labels first, of the version asked for."""
    _, out, _ = run(capsys, "binary", "--segment", "carrier", "--version", "all")
    lines = [line.split("\t")[:2] for line in out.splitlines()]
    assert lines == [
        ["carrier", "labels"], ["c0", "133"], ["c1", "133"], ["c2", "133"], ["(missing)", "1"],
        ["all", "400"],
    ]  # fmt: skip
    _, out, _ = run(capsys, "binary", "--segment", "carrier", "--version", "2")
    assert out.splitlines()[-1].startswith("all\t100\t")


def test_all_figures_as_json(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json has what the file has."""
    _, out, _ = run(capsys, "multiclass", "--json")
    file = evaluation_file(models, "multiclass", "pipeline")
    assert json.loads(out) == json.loads(file.read_bytes())
    assert set(json.loads(out)["all"]["all"]["classes"]) <= set(CLASSES)


def test_what_was_served_has_a_file_of_its_own(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--served shows the other file."""
    board = EvaluationBoard("binary", (), SECOND_US)
    board.add(make("binary", 7), ["b1"] * 7)
    write_evaluation(evaluation_file(models, "binary", "served"), "binary", board.report())
    _, out, _ = run(capsys, "binary", "--served")
    assert [line.split("\t")[0] for line in out.splitlines()] == ["version", "b1", "recent", "all"]


def test_baselines_that_nobody_knows_are_no_columns(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was served has no baselines, so --served shows no empty columns of them."""
    report = json.loads(evaluation_file(models, "binary", "pipeline").read_bytes())
    text = json.dumps(report)
    for name in ("baseline_rate_log_loss", "baseline_last_accuracy"):
        text = text.replace(f'"{name}"', '"was"')
    evaluation_file(models, "binary", "served").write_text(text)
    assert "baseline" not in run(capsys, "binary", "--served")[1]
    assert "baseline" in run(capsys, "binary")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody"], "no model 'nobody'"),
        (["empty"], "`headwater run` writes it"),
        (["binary", "--served"], "`headwater evaluate` writes it"),
        (["binary", "--segment", "dest"], "not evaluated by 'dest' (segments: carrier)"),
        (["binary", "--segment", "carrier", "--version", "9"], "0, 1, 2, earlier, recent, all"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_named(
    models: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """Unknown models, segments and versions fail with one line that says what there is."""
    code, _, errors = run(capsys, *words)
    assert code == 1
    assert said in errors
    assert errors.count("\n") == 1
