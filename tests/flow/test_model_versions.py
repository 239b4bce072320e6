"""Old versions of a model go while the flow runs, and nothing else changes by that."""

from __future__ import annotations

from pathlib import Path

from contracts.model_repository import ModelRepository
from tests.flow import shop
from tests.flow.conftest import Run


def test_a_run_that_keeps_few_versions(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, run: Run
) -> None:
    """The newest are there, byte for byte, of the older ones few; all tables are the same."""
    out = tmp_path / "out"
    given = {"batch_bytes": 9_000, "epoch_seconds": 0.0}
    run(new_log, out, model_repository=out / "models", model_versions_kept=1, **given)
    all_models, models = (ModelRepository(each / "models") for each in (first_run[1], out))
    everything, left = all_models.versions("late_order"), models.versions("late_order")
    # One, and those of four epochs in which there were new ones.
    assert everything[-2:] == left[-2:]
    assert len(left) < len(everything)
    assert "1" not in left
    for version in left:
        assert models.load("late_order", version)[1] == all_models.load("late_order", version)[1]
    assert models.channels("late_order") == all_models.channels("late_order")
    found, wanted = shop.digests(out), shop.digests(first_run[1])
    assert {**found, "models": ""} == {**wanted, "models": ""}
