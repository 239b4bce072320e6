"""Records of the prediction log: which are known already, and the rows that they become."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.model_repository import ModelRepository
from dataflows.served.decisions import DecisionMaker
from dataflows.served.rows import Record, Remembered, served_rows
from tests.served.world import MODEL, World, record

ROOM = 4


@given(st.lists(st.integers(0, 9), max_size=40))
def test_the_newest_numbers_are_remembered(numbers: list[int]) -> None:
    """So many as there is room for, in the order in which each came first; saving changes none."""
    seen, held = Remembered(ROOM), list[int]()
    for number in numbers:
        assert seen.is_new(number) == (number not in held)
        if number not in held:
            held = [*held, number][-ROOM:]
        assert seen.dump() == held
        saved, seen = seen.dump(), Remembered(ROOM)
        seen.load(saved)


@pytest.mark.parametrize(
    ("one", "other", "are_same"), [(3, 3.0, True), (True, "1", True), (3, 3.5, False)]
)
def test_an_entity_is_one_unit_however_it_is_written(
    one: object, other: object, *, are_same: bool
) -> None:
    """Whoever is assigned to the challenger once counts once: values go by their text there too."""
    units = []
    for value in (one, other):
        data = json.loads(record(f"o{value}", "1", 0.5))
        data["rows"][0]["inputs"]["shop"] = value
        (row,) = served_rows(msgspec.convert(data, Record), (), "shop")
        units.append(row.unit)
    assert (units[0] == units[1]) == are_same


def test_rows_without_the_input_are_units_of_their_own() -> None:
    """An entity that nobody named is not one that many rows have in common."""
    data = [json.loads(record(name, "1", 0.5)) for name in "ab"]
    for one in data:
        one["rows"][0]["inputs"]["shop"] = None
    units = [served_rows(msgspec.convert(one, Record), (), "shop")[0].unit for one in data]
    assert units[0] != units[1]


def test_showing_figures_reads_no_audit(world_without_audit: ModelRepository) -> None:
    """The channels of a model that publishes each second are known without its long audit file."""
    maker = DecisionMaker(world_without_audit, lambda: 0, lambda _: None)
    channels = maker.channels(MODEL)
    assert channels is not None
    assert channels.champion == "1"
    assert maker.channels("nobody") is None


@pytest.fixture
def world_without_audit(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """A repository whose audit file cannot be read."""
    world = World(tmp_path_factory.mktemp("world"))
    world.publish("1")
    file = world.repository.root / MODEL / "audit.ndjson"
    file.unlink()
    file.mkdir()
    return world.repository
