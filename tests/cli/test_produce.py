"""`headwater produce`: lines into the log, of files and of Kafka."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.partitioner import murmur2

from cli.main import main
from cli.records import RecordReader
from contracts.plan_file import plan_path, read_plan, write_plan
from tests.cli.rides import SECONDS_MAX, Rides, asked, done, lines
from tests.integration.commands import Commands
from tests.services.kafka import KafkaBroker
from tests.services.server import free_ports


def _produce(rides: Rides, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["produce", *words, "--repo", str(rides.folder)])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_a_file_arrives_byte_for_byte(
    rides: Rides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records stand in the log as in the file, behind those that were there; empty lines do not."""
    text = lines([asked(i) for i in range(1000)])
    file = tmp_path / "asked.ndjson"
    file.write_text("\n" + text.rstrip("\n"))
    for _ in range(2):
        assert _produce(rides, "rides.asked", str(file)) == 0
        assert "1,000 records written to rides.asked" in capsys.readouterr().err
    assert rides.partition("rides.asked").read_text() == text * 2


@pytest.mark.parametrize("bad", ["[1]", "{", "17", '{"a": NaN}', '{"a": 1} {"b": 2}'])
def test_the_first_bad_line_ends_it(rides: Rides, bad: str, commands: Commands) -> None:
    """What stands before a bad line is written, nothing behind it, and the line is named."""
    good = lines([asked(i) for i in range(3)])
    result = rides.forked(commands, "produce", "t", "--repo", ".", given=good + bad + "\n" + good)
    assert result.returncode == 1
    assert result.stderr.startswith("headwater: standard input: line 4 ")
    assert "3 records before it were written to t" in result.stderr
    assert rides.partition("t").read_text() == good


def test_the_key_field_of_the_plan_chooses_the_partition(
    ran: Rides, tmp_path: Path, commands: Commands
) -> None:
    """Records go to the partition that the hash of the topic's key field says."""
    log = tmp_path / "log"
    (log / "rides.done").mkdir(parents=True)
    for number in range(3):
        (log / "rides.done" / f"{number}.ndjson").touch()
    elsewhere = Rides(ran.folder, {"HEADWATER_LOG_URL": log.as_uri()})
    records = [done(i) for i in range(20)]
    assert elsewhere.forked(commands, "produce", "rides.done", given=lines(records)).returncode == 0
    for number in range(3):
        expected = [r for r in records if crc32(str(r["city"]).encode()) % 3 == number]
        assert (log / "rides.done" / f"{number}.ndjson").read_text() == lines(expected)


def test_a_topic_that_nothing_reads_is_told(
    ran: Rides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records of a misspelt topic are written, since others may read it, and the topics named."""
    monkeypatch.setenv("HEADWATER_LOG_URL", (tmp_path / "log").as_uri())
    file = tmp_path / "one.ndjson"
    file.write_text(lines([done(1)]))
    for topic, note in (
        ("rides.dome", "note: nothing applied here reads rides.dome; the topics are rides.asked, "),
        ("rides.done", ""),
    ):
        assert _produce(ran, topic, str(file)) == 0
        told = capsys.readouterr().err
        assert told.startswith(note or "1 record written to rides.done")
        assert f"1 record written to {topic}\n" in told


def test_a_slow_pipe_is_not_held_back(rides: Rides) -> None:
    """A record is in the log as soon as it came through the pipe, not only at its end."""
    with rides.started("produce", "slow") as process:
        assert process.stdin is not None
        for written in ('{"a":0}\n', '{"a":0}\n{"a":1}\n'):
            process.stdin.write(written[-8:])
            process.stdin.flush()
            _wait_until_it_holds(rides.partition("slow"), written)
        process.stdin.close()
        assert process.wait(SECONDS_MAX) == 0


def _wait_until_it_holds(file: Path, text: str) -> None:
    end = time.monotonic() + SECONDS_MAX
    while not file.exists() or file.read_text() != text:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_do_not_matter(size: int) -> None:
    """However a stream comes in pieces, its records and the number of its bad line are the same."""
    data = lines([asked(i) for i in range(20)]).encode() + b"\n{\n{}\n"
    pieces = iter([data[i : i + size] for i in range(0, len(data), size)])
    reader = RecordReader(lambda _: next(pieces, b""), "city")
    found = list(reader.blocks())
    records = [record for block, _ in found for record in block]
    assert records == [(str(asked(i)["city"]), json.dumps(asked(i)).encode()) for i in range(20)]
    errors = [error for _, error in found if error is not None]
    assert [error.line for error in errors] == [22]


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is no text of lines is given up at the length that the log can hold."""
    monkeypatch.setattr("cli.records.RECORD_BYTES_MAX", 100)
    reader = RecordReader(lambda _: b"x" * 30, None)
    ((_, error),) = reader.blocks()
    assert error is not None
    assert "longer than" in str(error)
    assert reader.bytes_read < 200


@pytest.mark.parametrize("topic", ["../up", "a/b", "..", "", "a b"])
def test_topics_stay_in_the_log(rides: Rides, topic: str) -> None:
    """A name that would lead out of the log's folder is a usage error."""
    assert _produce(rides, topic, __file__) == 2
    assert not (rides.folder / "data").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "avro"}, "holds avro,"),
        ({"format": "protobuf", "framing": "schema-registry"}, "with schema-registry framing"),
        ({"framing": "schema-registry"}, "holds json with schema-registry framing"),
    ],
)
def test_other_formats_are_refused(
    ran: Rides, tmp_path: Path, change: dict[str, Any], said: str, commands: Commands
) -> None:
    """A topic that does not hold plain JSON is refused by name, and nothing is written."""
    elsewhere = Rides(tmp_path / "repo")
    elsewhere.create()
    plan = read_plan(plan_path(ran.folder)).plan
    topics = tuple(
        dataclasses.replace(one, **change) if one.name == "rides.done" else one
        for one in plan.topics
    )
    write_plan(plan_path(elsewhere.folder), dataclasses.replace(plan, topics=topics), {})
    result = elsewhere.forked(commands, "produce", "rides.done", given=lines([done(1)]))
    assert result.returncode == 1
    assert "topic rides.done " in result.stderr
    assert said in result.stderr
    assert not elsewhere.partition("rides.done").exists()


def _with_kafka(folder: Path, servers: str) -> Rides:
    return Rides(folder, {"HEADWATER_LOG_URL": f"kafka://{servers}"})


def _read_all(servers: str, topic: str, count: int) -> dict[int, list[tuple[bytes | None, bytes]]]:
    """Keys and values of the topic's partitions; fails unless there are so many of them."""
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    try:
        places = [TopicPartition(topic, one) for one in consumer.partitions_for_topic(topic) or ()]
        assert sum(consumer.end_offsets(places).values()) == count
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        found: dict[int, list[tuple[bytes | None, bytes]]] = {one.partition: [] for one in places}
        end = time.monotonic() + SECONDS_MAX
        while sum(map(len, found.values())) < count:
            assert time.monotonic() < end
            for place, messages in consumer.poll(timeout_ms=200).items():
                found[place.partition] += [(one.key, one.value) for one in messages]
        return found
    finally:
        consumer.close()


@pytest.mark.services
def test_kafka_gets_the_same_bytes_by_key(
    ran: Rides,
    kafka_broker: KafkaBroker,
    new_topic: Callable[..., str],
    tmp_path: Path,
    commands: Commands,
) -> None:
    """Records arrive byte for byte, under the topic's key field, where murmur2 of the key says."""
    topic = new_topic(3)
    folder = tmp_path / "repo"
    Rides(folder).create()
    plan = read_plan(plan_path(ran.folder)).plan
    renamed = tuple(
        dataclasses.replace(one, name=topic) if one.name == "rides.done" else one
        for one in plan.topics
    )
    write_plan(plan_path(folder), dataclasses.replace(plan, topics=renamed), {})
    records = [done(number) for number in range(300)]
    servers = kafka_broker.bootstrap_servers
    result = _with_kafka(folder, servers).forked(commands, "produce", topic, given=lines(records))
    assert (result.returncode, result.stderr) == (0, f"300 records written to {topic}\n")
    for number, found in _read_all(servers, topic, 300).items():
        assert found == [
            (str(record["city"]).encode(), json.dumps(record).encode())
            for record in records
            if (murmur2(str(record["city"]).encode()) & 0x7FFFFFFF) % 3 == number
        ]


@pytest.mark.services
def test_without_a_known_key_kafka_stores_none(
    rides: Rides, kafka_broker: KafkaBroker, new_topic: Callable[..., str], commands: Commands
) -> None:
    """Where nothing was applied for the topic, records go without a key instead of twice."""
    topic = new_topic()
    servers = kafka_broker.bootstrap_servers
    result = _with_kafka(rides.folder, servers).forked(
        commands, "produce", topic, given='{"a":1}\n[]\n'
    )
    assert result.returncode == 1
    assert "line 2 " in result.stderr
    assert f"1 records before it were written to {topic}" in result.stderr
    assert _read_all(servers, topic, 1) == {0: [(None, b'{"a":1}')]}


@pytest.mark.services
def test_what_was_acknowledged_is_told(
    rides: Rides, kafka_broker: KafkaBroker, new_topic: Callable[..., str], commands: Commands
) -> None:
    """A record that Kafka refuses ends it with the reason and how many are there."""
    topic = new_topic()
    large = json.dumps({"a": "x" * 2_000_000})
    result = _with_kafka(rides.folder, kafka_broker.bootstrap_servers).forked(
        commands, "produce", topic, given='{"a":1}\n' + large + "\n"
    )
    assert result.returncode == 1
    assert "message.max.bytes" in result.stderr
    assert result.stderr.endswith("; 1 records were written before\n")
    assert len(result.stderr.splitlines()) == 1
    _read_all(kafka_broker.bootstrap_servers, topic, 1)


def test_kafka_that_does_not_answer_is_one_line(rides: Rides, commands: Commands) -> None:
    """Without a broker it ends after the time of the setting, with the address."""
    (port,) = free_ports(1)
    rides.settings["HEADWATER_LOG_URL"] = f"kafka://127.0.0.1:{port}"
    rides.settings["HEADWATER_KAFKA_TIMEOUT_SECONDS"] = "0.5"
    result = rides.forked(commands, "produce", "t", given='{"a":1}\n')
    assert result.returncode == 1
    assert result.stderr.startswith(f"headwater: Kafka at 127.0.0.1:{port} did not answer")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_all_written(rides: Rides, number: signal.Signals) -> None:
    """While it waits for more, Ctrl-C and SIGTERM end it; it says what it has written."""
    with rides.started("produce", "t") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write('{"a":0}\n{"a":1}\n')
        process.stdin.flush()
        _wait_until_it_holds(rides.partition("t"), '{"a":0}\n{"a":1}\n')
        process.send_signal(number)
        assert process.wait(SECONDS_MAX) == 1
        assert process.stderr.read() == "headwater: interrupted; 2 records were written to t\n"


@pytest.mark.services
def test_a_signal_leaves_kafka_complete(
    rides: Rides, kafka_broker: KafkaBroker, new_topic: Callable[..., str]
) -> None:
    """What it says that it has written when SIGTERM came is what Kafka has."""
    topic = new_topic()
    servers = kafka_broker.bootstrap_servers
    with _with_kafka(rides.folder, servers).started("produce", topic) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write('{"a":0}\n' * 1_000)
        process.stdin.flush()
        consumer = KafkaConsumer(bootstrap_servers=servers)
        place = TopicPartition(topic, 0)
        end = time.monotonic() + SECONDS_MAX
        while consumer.end_offsets([place])[place] < 1_000:
            assert time.monotonic() < end
        consumer.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS_MAX) == 1
        assert "interrupted; 1,000 records were written" in process.stderr.read()
    _read_all(servers, topic, 1_000)
