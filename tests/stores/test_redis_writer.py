"""The Redis writer when Redis goes away, refuses, hangs, or wants to be spoken to in other ways."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.connection import Connection
from redis.exceptions import ClusterError, MovedError

from contracts.feast_redis import redis_key
from dataflows.stores import redis_writer
from dataflows.stores.online_writer import OnlineStoreError, OnlineStoreGoneError
from dataflows.stores.redis_client import open_cluster, store_error
from dataflows.stores.redis_writer import RedisOnlineWriter
from tests.services.redis import RedisServer
from tests.services.server import free_ports
from tests.stores.redis_shop import (
    ask,
    client_of,
    cluster_node,
    config_for,
    contents,
    feast_writes,
    join_cluster,
    make_view,
    numbered_rows,
)

pytestmark = pytest.mark.services
NewRedis = Callable[..., RedisServer]
VIEW = make_view("rides")
PROJECT = "shop"
TIMEOUT_SECONDS = 2.0


def write(writer: RedisOnlineWriter, count: int, first: int = 0) -> None:
    """Stage some rows and send them."""
    writer.write(VIEW, *numbered_rows(VIEW, count, first))
    writer.commit()


def commit_when_back(writer: RedisOnlineWriter) -> None:
    """Ask again until Redis takes everything."""
    deadline = time.monotonic() + 20
    while True:
        try:
            writer.commit()
        except OnlineStoreGoneError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_rows_staged_while_redis_is_down_arrive_later(new_redis_server: NewRedis, end: str) -> None:
    """With Redis gone commit says so each time; once it is back the same commit writes all."""
    server = new_redis_server()
    config = config_for(server.address)
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
    write(writer, 10)
    getattr(server, end)()
    writer.write(VIEW, *numbered_rows(VIEW, 3000, 5))
    for _ in range(2):
        with pytest.raises(OnlineStoreGoneError, match=f"{server.address} does not take writes"):
            writer.commit()
    writer.write(VIEW, *numbered_rows(VIEW, 1, 5000))
    server.start()
    commit_when_back(writer)
    writer.close()
    with client_of(config) as client:
        assert len(contents(client, PROJECT)) == 3006


def test_crumbs_go_together(new_redis_server: NewRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows of each of many shards are sent at once; much is sent in pieces, all the same."""
    monkeypatch.setattr(redis_writer, "_ROWS_AT_ONCE", 10)
    sent: list[int] = []
    send: Any = Connection.send_packed_command

    def count(connection: Connection, command: list[bytes], **options: bool) -> None:
        sent.append(command[0].count(b"HSET"))
        send(connection, command, **options)

    server = new_redis_server()
    config = config_for(server.address)
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
    write(writer, 1)
    monkeypatch.setattr(Connection, "send_packed_command", count)
    for first in range(0, 9, 3):
        writer.write(VIEW, *numbered_rows(VIEW, 3, first))
    writer.commit()
    assert sent == [9]
    writer.write(VIEW, *numbered_rows(VIEW, 4, 9))
    writer.write(VIEW, *numbered_rows(VIEW, 23, 13))
    writer.write(VIEW, *numbered_rows(VIEW, 2, 36))
    writer.commit()
    assert sent == [9, 14, 10, 5]
    writer.close()
    apart = RedisOnlineWriter(config, "apart", TIMEOUT_SECONDS)
    for first in range(38):
        write(apart, 1, first)
    apart.close()
    with client_of(config) as client:
        mine, theirs = contents(client, PROJECT), contents(client, "apart")
    assert len(mine) == 38
    assert {key.removesuffix(PROJECT.encode()): row for key, row in mine.items()} == {
        key.removesuffix(b"apart"): row for key, row in theirs.items()
    }


def test_killed_in_the_middle_of_a_commit_loses_nothing(new_redis_server: NewRedis) -> None:
    """However much of a commit Redis had taken when it was killed, the next one writes it all."""
    server = new_redis_server("--appendfsync", "always")
    config = config_for(server.address)
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
    write(writer, 1)
    begun = threading.Event()

    def kill_when_begun() -> None:
        with client_of(config) as client:
            while client.dbsize() < 100:
                pass
        server.kill()
        begun.set()

    killer = threading.Thread(target=kill_when_begun)
    killer.start()
    writer.write(VIEW, *numbered_rows(VIEW, 100_000))
    with pytest.raises(OnlineStoreGoneError):
        writer.commit()
    killer.join(10)
    assert begun.is_set()
    server.start()
    commit_when_back(writer)
    writer.close()
    with client_of(config) as client:
        assert client.dbsize() == 100_000


def test_a_hanging_redis_is_gone_after_the_time_limit(new_redis_server: NewRedis) -> None:
    """A Redis that takes our bytes but gives no answer is given up, and used again later."""
    server = new_redis_server()
    config = config_for(server.address)
    writer = RedisOnlineWriter(config, PROJECT, 0.3)
    write(writer, 1)
    server.pause()
    writer.write(VIEW, *numbered_rows(VIEW, 20_000))
    begun = time.monotonic()
    with pytest.raises(OnlineStoreGoneError):
        writer.commit()
    assert 0.2 < time.monotonic() - begun < 3
    server.resume()
    commit_when_back(writer)
    writer.close()
    with client_of(config) as client:
        assert client.dbsize() == 20_000


def test_a_replica_is_asked_again_until_it_is_master(new_redis_server: NewRedis) -> None:
    """A replica takes no writes, which may pass; once it is master the same rows arrive."""
    server = new_redis_server()
    config = config_for(server.address)
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
    with client_of(config) as client:
        client.replicaof("127.0.0.1", free_ports(1)[0])
        with pytest.raises(OnlineStoreGoneError, match="read only replica"):
            write(writer, 10)
        client.replicaof("NO", "ONE")
        writer.commit()
        assert client.dbsize() == 10
    writer.close()


@pytest.mark.parametrize(
    ("reply", "is_gone"),
    [
        ("LOADING Redis is loading the dataset in memory", True),
        ("READONLY You can't write against a read only replica.", True),
        ("MISCONF Redis is configured to save RDB snapshots, but cannot persist on disk.", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("BUSY Redis is busy running a script.", True),
        ("CLUSTERDOWN Hash slot not served", True),
        ("TRYAGAIN Multiple keys request during rehashing of slot", True),
        ("MASTERDOWN Link with MASTER is down", True),
        ("ERR max number of clients reached", True),
        ("OOM command not allowed when used memory > 'maxmemory'.", False),
        ("NOAUTH Authentication required.", False),
        ("NOPERM this user has no permissions to run the 'hset' command", False),
        ("ERR unknown command 'HSET'", False),
    ],
)
def test_what_redis_says_is_taken_as_passing_or_final(reply: str, is_gone: bool) -> None:
    """Replies that pass by themselves are to be asked again; all others end with one line."""

    def answer_all() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(65_536):
                connection.sendall(f"-{reply}\r\n".encode() * data.count(b"*"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_all)
        thread.start()
        config = config_for(f"127.0.0.1:{listener.getsockname()[1]}")
        writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
        with pytest.raises(OnlineStoreError) as caught:
            write(writer, 1)
        writer.close()
        thread.join(5)
    assert isinstance(caught.value, OnlineStoreGoneError) == is_gone
    assert "\n" not in str(caught.value)


def test_memory_that_is_full_is_an_error_with_advice(new_redis_server: NewRedis) -> None:
    """At maxmemory waiting does not help: the error is final and names the setting."""
    server = new_redis_server("--maxmemory", "3mb")
    writer = RedisOnlineWriter(config_for(server.address), PROJECT, TIMEOUT_SECONDS)
    with pytest.raises(OnlineStoreError, match=r"give it more memory \(maxmemory\)") as caught:
        write(writer, 50_000)
    assert not isinstance(caught.value, OnlineStoreGoneError)
    writer.close()


def test_a_key_of_another_kind_is_an_error(new_redis_server: NewRedis) -> None:
    """Where a key of ours is no hash, the error says so and is final."""
    server = new_redis_server()
    config = config_for(server.address)
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
    keys, _, _ = numbered_rows(VIEW, 1)
    with client_of(config) as client:
        client.set(redis_key(PROJECT, keys[0]), "x")
    with pytest.raises(OnlineStoreError, match=r"WRONGTYPE.*a db of its own") as caught:
        write(writer, 1)
    assert not isinstance(caught.value, OnlineStoreGoneError)
    writer.close()


def test_user_password_and_db_are_used(new_redis_server: NewRedis) -> None:
    """With the right ones rows are written to the db; wrong or missing ones are told at once."""
    server = new_redis_server("--requirepass", "1234")
    with client_of(config_for(server.address, ",password=1234")) as client:
        ask(client, "ACL SETUSER flow on >secret ~* +hset +expire +select +ping")
        ask(client, "ACL SETUSER reader on >secret ~* +hget +select")
    for options in (",password=1234,db=3", ",username=flow,password=secret,db=3"):
        writer = RedisOnlineWriter(config_for(server.address, options), PROJECT, TIMEOUT_SECONDS)
        write(writer, 7)
        writer.close()
    with client_of(config_for(server.address, ",password=1234,db=3")) as client:
        assert len(contents(client, PROJECT)) == 7
    with client_of(config_for(server.address, ",password=1234")) as client:
        assert client.dbsize() == 0
    refused = {
        "": "correct username and password",
        ",password=wrong": "correct username and password",
        ",username=reader,password=secret": "correct username and password",
        ",password=1234,db=99": "correct db in connection_string",
    }
    for options, advice in refused.items():
        writer = RedisOnlineWriter(config_for(server.address, options), PROJECT, TIMEOUT_SECONDS)
        with pytest.raises(OnlineStoreError, match=advice) as caught:
            write(writer, 1)
        assert not isinstance(caught.value, OnlineStoreGoneError)
        assert "\n" not in str(caught.value)
        writer.close()


def test_an_expiry_that_is_refused_is_not_passed_over(new_redis_server: NewRedis) -> None:
    """The answer to a row's second command, EXPIRE, is read too, of the last row as well."""
    server = new_redis_server()
    with client_of(config_for(server.address)) as client:
        ask(client, "ACL SETUSER flow on >secret ~* +hset +ping")
    config = config_for(server.address, ",username=flow,password=secret", key_ttl_seconds=60)
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
    with pytest.raises(OnlineStoreError, match="expire"):
        write(writer, 1)
    writer.close()


def test_tls_with_a_certificate_that_is_checked(new_redis_server: NewRedis, tmp_path: Path) -> None:
    """Rows go over TLS; an unknown authority or a missing file ends with advice, not in waiting."""
    ca, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", ca], check=True, capture_output=True)
    port = free_ports(1)[0]
    tls = ("--tls-port", str(port), "--tls-cert-file", str(ca), "--tls-key-file", str(key))
    server = new_redis_server(*tls, "--tls-ca-cert-file", str(ca), "--tls-auth-clients", "no")
    address = f"127.0.0.1:{port}"
    writer = RedisOnlineWriter(
        config_for(address, f",ssl=true,ssl_ca_certs={ca}"), PROJECT, TIMEOUT_SECONDS
    )
    write(writer, 20_000)
    writer.close()
    with client_of(config_for(server.address)) as client:
        assert client.dbsize() == 20_000
    for options in (",ssl=true", f",ssl=true,ssl_ca_certs={tmp_path / 'none.pem'}"):
        writer = RedisOnlineWriter(config_for(address, options), PROJECT, TIMEOUT_SECONDS)
        with pytest.raises(OnlineStoreError, match="correct ssl=true, ssl_ca_certs") as caught:
            write(writer, 1)
        assert not isinstance(caught.value, OnlineStoreGoneError)
        writer.close()


@pytest.mark.parametrize("ttl", [None, 3600])
def test_cluster_takes_the_same_bytes(new_redis_server: NewRedis, ttl: int | None) -> None:
    """Three nodes hold together what one server would, and each row is on the node of its slot."""
    nodes = [cluster_node(new_redis_server) for _ in range(3)]
    join_cluster(nodes)
    config = config_for(
        f"{nodes[0].address},{nodes[1].address}", redis_type="redis_cluster", key_ttl_seconds=ttl
    )
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
    write(writer, 300)
    found: dict[bytes, dict[bytes, bytes]] = {}
    for node in nodes:
        with client_of(config_for(node.address)) as client:
            here = contents(client, PROJECT)
            assert here
            assert all((client.ttl(key) > 0) == (ttl is not None) for key in here)
            found |= here
    assert len(found) == 300
    alone = new_redis_server()
    _, stamps, values = numbered_rows(VIEW, 300)
    names = [(f"K{number}", number) for number in range(300)]
    feast_writes(alone.address, PROJECT, VIEW, names, stamps.tolist(), values.tolist())
    with client_of(config_for(alone.address)) as client:
        assert contents(client, PROJECT) == found
    nodes[2].kill()
    writer.write(VIEW, *numbered_rows(VIEW, 300, 100))
    with pytest.raises(OnlineStoreGoneError):
        writer.commit()
    nodes[2].start()
    commit_when_back(writer)
    cluster = open_cluster(config, TIMEOUT_SECONDS)
    assert sum(1 for _ in cluster.scan_iter(b"*", count=1000)) == 400
    keys, _, _ = numbered_rows(VIEW, 1, 1000)
    cluster.set(redis_key(PROJECT, keys[0]), "x")
    cluster.close()
    with pytest.raises(OnlineStoreError, match=r"refuses: WRONGTYPE.*a db of its own") as caught:
        write(writer, 1, 1000)
    assert "K1000" not in str(caught.value)
    writer.close()


def test_a_cluster_or_not_is_told_when_it_is_the_other(new_redis_server: NewRedis) -> None:
    """redis_type that does not fit the server is an error that says what to set."""
    single, node = new_redis_server(), cluster_node(new_redis_server)
    other = cluster_node(new_redis_server)
    join_cluster([node, other])
    for config, advice in (
        (config_for(single.address, redis_type="redis_cluster"), "set redis_type: redis in"),
        (config_for(node.address), "set redis_type: redis_cluster in"),
    ):
        writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
        with pytest.raises(OnlineStoreError, match=advice) as caught:
            write(writer, 100)
        assert not isinstance(caught.value, OnlineStoreGoneError)
        writer.close()


def test_slots_that_move_are_waited_for_in_a_cluster() -> None:
    """MOVED tells a lone server's client that it is a cluster; to a cluster's it will pass."""
    error = ClusterError("TTL exhausted.")
    error.__context__ = moved = MovedError("1234 127.0.0.1:7001")
    cluster = config_for("127.0.0.1:7000", redis_type="redis_cluster")
    for one in (error, moved):
        found = store_error(one, cluster)
        assert isinstance(found, OnlineStoreGoneError)
        assert "see that it runs, then start again; nothing is lost" in str(found)
        assert found.problem in str(found)
        assert "start again" not in found.problem
    alone = store_error(moved, config_for("127.0.0.1:7000"))
    assert not isinstance(alone, OnlineStoreGoneError)
    assert "set redis_type: redis_cluster" in str(alone)
