"""What goes with a model that the definitions no longer have, and what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flow import shop
from tests.replay.world import files_below, make_world
from tests.replay_state import generations


@pytest.mark.parametrize("chosen", [{"models": ("late_shop",)}, {}], ids=["a part", "everything"])
def test_what_of_a_gone_model_goes(
    tmp_path: Path, records: list[shop.Record], chosen: dict[str, Any]
) -> None:
    """Its versions and examples go with its state; rows that its views wrote offline stay."""
    world = make_world(tmp_path / "repository", generations.OLD)
    world.write(records[:400])
    world.run()
    places, offline = world.places, world.places.offline["shop_totals"]
    folders = [places.models / "late_shop", places.examples / "late_shop"]
    rows = files_below(offline)
    assert rows
    assert all(folder.exists() for folder in folders)
    world.define(generations.old_definitions("a new model"))
    world.replay(**chosen)
    assert not any(folder.exists() for folder in folders)
    assert files_below(offline) == rows
    assert (places.models / "late_order").exists()
