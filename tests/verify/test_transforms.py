"""Views with functions: a record that one of them refuses counts for no view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dataflows.definitions.repository import load_repository
from tests.flow import shop
from tests.verify.test_served_rows import requests
from tests.verify.world import MODEL, Oracle, World

# No model reads this view.
PICKY = """
def picked(rows):
    if any(amount is not None and amount > 20.0 for amount in rows["amount"]):
        raise ValueError("too much")
    return rows


picky = view(
    "picky", [shop], ORDERS, {"shop": Int64}, [over("max", 10, 10, "most")], {"most": Float64},
    udf=picked, udf_string="picked")
service ="""


def without_large(records: Sequence[shop.Record]) -> list[shop.Record]:
    """The records with those that the view refuses as bad ones."""
    return [
        replace(one, fields=None)
        if one.fields is not None and (one.fields.get("amount") or 0.0) > 20.0
        else one
        for one in records
    ]


def test_a_record_that_a_view_refuses_counts_for_none(
    records: list[shop.Record], tmp_path: Path
) -> None:
    """As in the dataflow, also where nobody asks for anything of that view."""
    definitions = shop.DEFINITIONS.replace("service =", PICKY.strip(), 1)
    repository = load_repository(shop.make_repository(tmp_path / "picky", definitions))
    log = shop.write_log(tmp_path / "log", records)
    settings = shop.settings(repository.directory, log, tmp_path / "out")
    world = World(repository, log, settings)
    good = without_large(records)
    assert sum(one.fields is None for one in good) > 30
    oracle = Oracle(repository.plan, good)
    world.serve(requests(oracle, 60))
    report = world.verify()
    assert report.models[MODEL].rows.equal == report.compared == 60
