"""Which rows of the prediction log are verified, and what becomes of the others."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from contracts.feast_bytes import entity_key
from contracts.prediction_record import PredictionRecord
from dataflows.erasure.tombstones import Tombstone, no_tombstones, write_tombstones
from dataflows.verify.served_rows import Skipped
from tests.flow import shop
from tests.verify.world import MODEL, SECOND_US, Oracle, Request, World

decode = msgspec.json.Decoder(PredictionRecord).decode
encode = msgspec.json.Encoder().encode


def requests(oracle: Oracle, count: int, seed: int = 1) -> list[Request]:
    """Requests that were served what was current."""
    rng = random.Random(seed)
    return [
        oracle.request(
            f"r{number}",
            rng.randrange(shop.BEGIN_US, oracle.last_us),
            {"user": f"u{rng.randrange(9)}", "shop": rng.randrange(3), "amount": 1.0},
        )
        for number in range(count)
    ]


def test_a_request_counts_once(world: World, oracle: Oracle) -> None:
    """Not for a shadow without a vector, one with a vector, or a record that stands there twice."""
    one, other = requests(oracle, 2)
    record = decode(one.record(world.schema))
    (row,) = record.rows
    shadow = msgspec.structs.replace(record, version="2", channel="shadow", answered=False)
    empty = [msgspec.structs.replace(row, vector=[])]
    records = [
        record,
        msgspec.structs.replace(shadow, rows=empty),
        shadow,
        record,
        decode(other.record(world.schema)),
    ]
    world.write([(one.name, encode(each)) for each in records])
    report = world.verify()
    assert report.models[MODEL].rows.equal == report.models[MODEL].rows.compared == 2
    assert report.counts.skipped[MODEL] == Skipped(shadows=1)
    assert report.counts.records == 5


def test_rows_of_one_request_are_told_apart(world: World, oracle: Oracle) -> None:
    """Of a request of several rows each counts, alike or not, and each is judged by itself."""
    one = requests(oracle, 1)[0]
    record = decode(one.record(world.schema))
    (row,) = record.rows
    wrong = msgspec.structs.replace(row, vector=[*row.vector[:-1], 1e9])
    world.write([(one.name, encode(msgspec.structs.replace(record, rows=[row, wrong, row])))])
    rows = world.verify().models[MODEL].rows
    assert (rows.compared, rows.equal, rows.different) == (3, 2, 1)


def test_what_cannot_be_compared_is_counted(world: World, oracle: Oracle) -> None:
    """Other vectors, other models, rows that are not as the schema says, and what is no record."""
    good, *bad = requests(oracle, 8)
    schema = world.schema
    record = decode(bad[0].record(schema))
    (row,) = record.rows
    changes = msgspec.structs.replace
    records = [
        good.record(schema),
        encode(changes(record, fingerprint="0" * 64)),
        encode(changes(record, model="another")),
        encode(changes(record, rows=[changes(row, vector=row.vector[1:])])),
        encode(changes(record, features=record.features[::-1])),
        encode(changes(record, rows=[changes(row, inputs={"user": "u1"})])),
        encode(changes(record, rows=[changes(row, inputs={**row.inputs, "user": 7})])),
        b"{}",
        b"no json",
        b"\xff",
        encode({**json.loads(encode(record)), "at_us": 2**63}),
        encode({**json.loads(encode(record)), "latency_ms": -1.0}),
    ]
    world.write([(f"{number}", data) for number, data in enumerate(records)])
    report = world.verify()
    counts = report.counts
    assert (counts.records, counts.broken, counts.other_models) == (12, 5, 1)
    assert counts.skipped[MODEL] == Skipped(other_schema=1, unlike=4)
    assert report.models[MODEL].rows.equal == report.compared == 1
    assert report.is_good


def test_nothing_to_compare_is_not_good(world: World, oracle: Oracle) -> None:
    """A report that says nothing does not pass for one that says that all is well."""
    assert not world.verify().is_good
    late = oracle.last_us + SECOND_US
    world.serve([oracle.request("r", late, {"user": "u1", "shop": 1, "amount": 1.0})])
    report = world.verify()
    assert report.models[MODEL].rows.not_yet_known == 1
    assert not report.is_good


def test_a_sample_is_the_same_rows_however_they_lie(
    world: World, oracle: Oracle, tmp_path: Path
) -> None:
    """A sample depends on what was served, not on where it stands in the log."""
    served = requests(oracle, 60)
    served = [
        one.with_value(4, -1.0) if number % 3 == 0 else one for number, one in enumerate(served)
    ]
    world.serve(served)
    found = world.verify(rows_max=20, examples_max=100)
    rows = found.models[MODEL].rows
    assert rows.compared == 20
    assert 0 < rows.different < 20
    log = shop.write_log(tmp_path / "other", shop.make_records(seed=11, orders=200))
    elsewhere = replace(
        world, log=log, settings=shop.settings(world.repository.directory, log, tmp_path / "out")
    )
    elsewhere.serve(served[::-1])
    again = elsewhere.verify(rows_max=20, examples_max=100)
    assert again.to_json() == found.to_json()
    assert world.verify(rows_max=60).compared == world.verify(rows_max=1_000).compared == 60


def test_times_are_half_open(world: World, oracle: Oracle) -> None:
    """``from_us`` is the first moment that counts, ``to_us`` the first that does not."""
    served = sorted(requests(oracle, 10), key=lambda one: one.at_us)
    world.serve(served)
    report = world.verify(from_us=served[2].at_us, to_us=served[7].at_us)
    assert report.compared == report.counts.rows[MODEL] == 5


@pytest.mark.parametrize(("names", "left"), [(("user",), 2), (("shop",), 1), (("shop", "user"), 2)])
def test_who_was_forgotten_is_passed_over(
    world: World, oracle: Oracle, names: tuple[str, ...], left: int
) -> None:
    """Rows of an entity with a tombstone are not compared: replays pass over its records."""
    at_us = oracle.last_us
    inputs = [("u1", 1), ("u2", 1), ("u2", 2)]
    world.serve(
        [
            oracle.request(f"{user}{number}", at_us, {"user": user, "shop": number, "amount": 1.0})
            for user, number in inputs
        ]
    )
    assert world.verify().compared == 3
    types = {"user": "string", "shop": "int64"}
    values: dict[str, str | int] = {"user": "u1", "shop": 1}
    key = entity_key(names, [types[name] for name in names], [values[name] for name in names])
    empty = no_tombstones()
    stone = Tombstone(0, names, empty.digest(key), "file", {}, {}, {}, "", "")
    write_tombstones(world.settings.state_dir, empty.added([stone]))
    report = world.verify()
    assert report.compared == left
    assert report.counts.skipped[MODEL].forgotten == 3 - left
