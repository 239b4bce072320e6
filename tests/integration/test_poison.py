"""Records that are no records: set aside as they are, and no others suffer."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaProducer

from tests.flow import shop
from tests.integration.conftest import NewShop
from tests.integration.real_shop import Letter, RealShop, places_of_records, run_on_files

pytestmark = pytest.mark.services
# As much as a broker takes: with the headers of a dead letter it would be too much.
LARGEST = 1024 * 1024 - 100


def _poison(rng: random.Random) -> list[bytes | None]:
    """Tombstones, random bytes, text that is no text, several records in one, a megabyte."""
    good = b'{"order_id": "x", "user": "u1", "shop": 1, "event_timestamp": "2013-01-01T22:00:00Z"}'
    return [
        None,
        b"",
        b"\n",
        b"\x00",
        b"\xff\xfe\xfd",
        b'{"user": "\xc3\x28"}',
        good + b"\n" + good,
        good[:-1],
        b"[" * 5_000,
        b'{"event_timestamp": 1e400}',
        b"null",
        rng.randbytes(100),
        rng.randbytes(LARGEST),
    ]


def _produce(
    made: RealShop, records: list[shop.Record], rng: random.Random
) -> tuple[list[Letter], int]:
    """Write records with poison of all kinds among them, in every partition.

    Returns:
        The letters that must come of it, and the number of poisonous records.
    """
    here = {place: _poison(rng) for place in places_of_records()}
    offsets = Counter[tuple[str, int]]()
    letters: list[Letter] = []
    count = 0
    sent: list[Any] = []
    with closing(
        KafkaProducer(bootstrap_servers=made.servers, linger_ms=5, max_request_size=2 * LARGEST)
    ) as producer:

        def send(place: tuple[str, int], value: bytes | None, *, is_bad: bool) -> None:
            key = b"key" if value is None else None
            sent.append(producer.send(made.topic(place[0]), value, key, partition=place[1]))
            if is_bad:
                letters.append((*place, offsets[place], value or b""))
            offsets[place] += 1

        for one in records:
            place = (one.topic, one.partition)
            if here[place] and rng.random() < 0.05:
                send(place, here[place].pop(0), is_bad=True)
                count += 1
            send(place, one.line, is_bad=one.fields is None)
        producer.flush(60)
        assert all(future.succeeded() for future in sent)
    assert not any(here.values())
    return sorted(letters), count


def test_poison_of_every_kind(new_shop: NewShop, records: list[shop.Record]) -> None:
    """The good records' results are those without poison; all poison is set aside, counted."""
    made = new_shop()
    expected = run_on_files(made, records)
    letters, count = _produce(made, records, random.Random(1))
    found = made.run_to_end()
    assert found == {**expected.counts, "bad": expected.counts["bad"] + count}
    assert made.digests() == expected.digests
    assert made.dead_letters() == letters


def test_too_much_poison_stops_the_flow(new_shop: NewShop, records: list[shop.Record]) -> None:
    """More bad records than the bound stop the run with what to do; all before it is kept."""
    made = new_shop(bad_record_window=40, bad_record_share_max=0.5)
    bad = [shop.Record("visits", 0, 0, b"no visit %d" % n, None) for n in range(30)]
    made.produce([*records[:300], *bad])
    refused = made.start("run", "--until-end").refuse()
    assert f"of 40 records of {made.topic('visits')}/0 are bad" in refused
    assert f"see {made.topic('visits')}.dlq" in refused
    letters = [letter[3] for letter in made.dead_letters()]
    assert {one.line for one in bad} <= set(letters)
    # Loud, and no less so the next time.
    assert made.start("run", "--until-end").refuse() == refused
    assert [letter[3] for letter in made.dead_letters()] == letters
    expected = run_on_files(made, [*records[:300], *bad])
    made.run_to_end(bad_record_share_max=1.0)
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters
