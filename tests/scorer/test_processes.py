"""Several processes on one port: all answer, what dies comes back, and none is left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from scorer.client import ScoreOptions, ScorerClient
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop
from tests.scorer.test_server import ROOT, free_port, scorer_process

PROCESSES = 2
SECONDS_MAX = 60.0
AT_NOON = ScoreOptions(event_time_us=NOON_US)


def children(pid: int) -> set[int]:
    """The processes that a process started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(one) for one in path.read_text(encoding="utf-8").split()}


def is_there(pid: int) -> bool:
    """Whether a process runs; one that only waits to be taken note of does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until it is so."""
    end = time.monotonic() + SECONDS_MAX
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def scores(address: str, calls: int) -> None:
    """Score over that many connections, one after the other."""
    for _ in range(calls):
        with ScorerClient(address, 30.0) as client:
            assert len(client.score(MODEL, [ROW], AT_NOON).scores) == 1


def handled(metrics_address: str) -> dict[str, float]:
    """Process -> scored requests, as the page shows them."""
    with urllib.request.urlopen(f"http://{metrics_address}/metrics", timeout=30) as page:
        text = page.read().decode()
    pattern = r'^grpc_server_handled_total\{[^}]*grpc_method="Score"[^}]*\} (\S+)$'
    found: dict[str, float] = {}
    for line in re.finditer(pattern, text, re.MULTILINE):
        number = re.search(r'process="(\d+)"', line[0])
        assert number is not None
        found[number[1]] = found.get(number[1], 0.0) + float(line[1])
    return found


def _page_port() -> int:
    """A port that is free, as are those behind it, where the processes show their own metrics."""
    for _ in range(100):
        port = free_port()
        try:
            for number in range(1, PROCESSES + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + number))
        except (OSError, OverflowError):
            continue
        return port
    pytest.fail("no free ports in a row")


@pytest.fixture
def settings() -> dict[str, str]:
    """Two processes, and a page of metrics with the ports behind it free."""
    port = _page_port()
    return {
        "HEADWATER_SCORER_PROCESSES": str(PROCESSES),
        "HEADWATER_METRICS_ADDRESS": f"127.0.0.1:{port}",
        "HEADWATER_DEFAULT_DEADLINE_SECONDS": "30",
    }


def test_all_processes_answer_and_what_dies_comes_back(
    scorer_shop: Shop, settings: dict[str, str]
) -> None:
    """Connections reach both; after a kill -9 of one the port answers on, and it comes back."""
    with scorer_process(scorer_shop, **settings) as (process, address):
        metrics = settings["HEADWATER_METRICS_ADDRESS"]
        scores(address, 30)
        assert set(handled(metrics)) == {"0", "1"}
        assert sum(handled(metrics).values()) == 30
        before = children(process.pid)
        assert len(before) == PROCESSES
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in children(process.pid), "the dead process was not taken away")
        scores(address, 10)
        until(lambda: len(children(process.pid)) == PROCESSES, "nothing came back")
        until(lambda: len(handled(metrics)) >= 1, "the page is gone")
        last = children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS_MAX) == 0
        until(lambda: not any(is_there(one) for one in last), "a process was left behind")


def test_none_outlives_who_started_it(scorer_shop: Shop, settings: dict[str, str]) -> None:
    """When the one that started them is killed, the processes end by themselves."""
    with scorer_process(scorer_shop, **settings) as (process, address):
        scores(address, 1)
        started = children(process.pid)
        process.kill()
        process.wait(SECONDS_MAX)
        until(lambda: not any(is_there(one) for one in started), "a process was left behind")
        with pytest.raises(grpc.RpcError), ScorerClient(address, 1.0) as client:
            client.score(MODEL, [ROW], AT_NOON)


def test_a_port_of_another_scorer_is_refused(scorer_shop: Shop, settings: dict[str, str]) -> None:
    """Several processes do not join others that share a port; the error says what to set."""
    with scorer_process(scorer_shop, **settings) as (_, address):
        second = subprocess.run(
            [sys.executable, "-m", "scorer", str(scorer_shop.folder)],
            cwd=ROOT,
            env={
                **os.environ,
                **settings,
                "HEADWATER_METRICS_ADDRESS": "",
                "HEADWATER_SCORER_ADDRESS": address,
            },
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert second.returncode == 1
    assert "HEADWATER_SCORER_ADDRESS" in second.stderr.splitlines()[-1]
    assert "Traceback" not in second.stderr


def test_a_start_that_hangs_can_be_ended(scorer_shop: Shop, settings: dict[str, str]) -> None:
    """SIGTERM ends them all in time, also while some are not ready yet."""
    file = scorer_shop.folder / "feature_store.yaml"
    file.unlink()
    # Nobody ever writes into it: who reads it waits.
    os.mkfifo(file)
    process = subprocess.Popen(
        [sys.executable, "-m", "scorer", str(scorer_shop.folder)],
        cwd=ROOT,
        env={
            **os.environ,
            **settings,
            "HEADWATER_SCORER_ADDRESS": "127.0.0.1:0",
            "HEADWATER_GRACE_SECONDS": "0",
        },
    )
    try:
        until(lambda: len(children(process.pid)) == PROCESSES, "not all were started")
        started = children(process.pid)
        process.send_signal(signal.SIGTERM)
        # Those that hang are killed some seconds later; to wait for them takes a minute.
        assert process.wait(30) == 0
        assert not any(is_there(one) for one in started)
    finally:
        process.kill()
        process.wait()
