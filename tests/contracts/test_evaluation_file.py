"""Files of evaluations: what was written is read, and what is broken is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.evaluation_file import (
    EvaluationFileError,
    evaluation_file,
    keep_served,
    read_evaluation,
    write_evaluation,
)


def test_written_is_read(tmp_path: Path) -> None:
    """A report comes back with the model's name, and equal reports give equal bytes."""
    one, other = (evaluation_file(tmp_path / name, "m", "pipeline") for name in "ab")
    report = {"versions": {"10": {"auc": 0.5}, "9": {"auc": None}}}
    assert read_evaluation(one) is None
    write_evaluation(one, "m", report)
    write_evaluation(other, "m", report)
    assert one.read_bytes() == other.read_bytes()
    found = read_evaluation(one)
    assert found == {"format": 1, "model": "m", **report}
    assert list(found["versions"]) == ["10", "9"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b"\xff"])
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    """What is no evaluation is refused with the file's name and what to do."""
    file = tmp_path / "pipeline.json"
    file.write_bytes(content)
    with pytest.raises(EvaluationFileError, match=r"pipeline\.json.*remove it"):
        read_evaluation(file)


def test_served_figures_move_to_a_new_repository(tmp_path: Path) -> None:
    """Only those of served predictions are copied, and where there are none nothing happens."""
    old, new = tmp_path / "old", tmp_path / "new"
    keep_served(old, new, "m")
    assert not new.exists()
    for side in ("pipeline", "served"):
        write_evaluation(evaluation_file(old, "m", side), "m", {"side": side})
    keep_served(old, new, "m")
    assert read_evaluation(evaluation_file(new, "m", "pipeline")) is None
    assert read_evaluation(evaluation_file(new, "m", "served")) == {
        "format": 1, "model": "m", "side": "served",
    }  # fmt: skip
