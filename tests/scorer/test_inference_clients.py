"""Clients of other people, in the environment that ``make test`` gives them, against a scorer."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from scorer.foreign import open_inference_pb2 as wire
from scorer.server import running
from tests.scorer import inference_clients
from tests.scorer.shop import Shop, bias_of, linear_score

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(inference_clients.__file__)
SCORES = [linear_score(vector, bias_of("1")) for vector in inference_clients.VECTORS]
NOTHING_STORED = {"card_1h:spent": "no_row", "card_1h:visits": "no_row"}


@pytest.fixture(scope="session")
def clients_python(without_service: Callable[[str], NoReturn]) -> Path:
    """The interpreter of the environment with the clients."""
    python = ROOT / "build" / "clients-venv" / "bin" / "python"
    if not python.exists():
        without_service("build/clients-venv (which `make test` makes)")
    return python


def seen_by(python: Path, who: str, shop: Shop) -> Any:
    """What a client sees of a scorer of the shop."""

    async def run() -> bytes:
        async with running(shop.settings(), shop.folder) as address:
            client = await asyncio.create_subprocess_exec(
                python, PROGRAM, who, address, stdout=subprocess.PIPE
            )
            out, _ = await asyncio.wait_for(client.communicate(), 60)
            assert client.returncode == 0
            return out

    return json.loads(asyncio.run(run()))


def check_wire_format(theirs: dict[str, Any], *not_theirs: str) -> None:
    """Every call, message and field of ours has the name, number and type that a client knows."""
    ours = inference_clients.wire_format(wire.DESCRIPTOR)
    assert len(ours["calls"]) == 6
    assert {name: theirs["calls"].get(name) for name in ours["calls"]} == ours["calls"]
    for message, fields in ours["messages"].items():
        known = {**{name: fields.get(name) for name in not_theirs}, **theirs["messages"][message]}
        assert {name: known.get(name) for name in fields} == fields, message


def test_tritonclient(scorer_shop: Shop, clients_python: Path) -> None:
    """Triton's client does all six calls, scores by keys and by vectors, and reads errors."""
    seen = seen_by(clients_python, "triton", scorer_shop)
    assert (seen["live"], seen["ready"]) == (True, True)
    assert seen["model_ready"] == [True, True, False]
    assert seen["server"]["name"] == "headwater"
    assert {one["name"]: one["datatype"] for one in seen["model"]["inputs"]} == {
        "amount": "FP64",
        "card": "INT64",
        "dest": "BYTES",
        "gift": "BOOL",
        "items": "INT64",
        "origin": "BYTES",
    }
    assert seen["keys"] == {
        "id": "from triton",
        "version": "1",
        "score": pytest.approx(SCORES, abs=1e-15),
        "missing": [{}, NOTHING_STORED],
    }
    for datatype in ("FP64", "FP32"):
        assert seen[datatype]["score"] == pytest.approx(SCORES, abs=1e-15)
    assert seen["refused"] == ["StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"]
    check_wire_format(seen["wire_format"])


def test_tritonclient_aio(scorer_shop: Shop, clients_python: Path) -> None:
    """Triton's asynchronous client gets the same answer in each of several calls at one time."""
    seen = seen_by(clients_python, "triton_aio", scorer_shop)
    assert seen["live"] is True
    assert len(seen["keys"]) == 8
    for answer in seen["keys"]:
        assert answer["score"] == pytest.approx(SCORES, abs=1e-15)
        assert answer["missing"] == [{}, NOTHING_STORED]


def test_kserve_client(scorer_shop: Shop, clients_python: Path) -> None:
    """KServe's client scores by keys, typed and raw."""
    seen = seen_by(clients_python, "kserve", scorer_shop)
    assert (seen["live"], seen["ready"], seen["model_ready"]) == (True, True, True)
    for how in ("typed", "raw"):
        assert seen[how] == {
            "id": "from kserve",
            "version": "1",
            "score": pytest.approx(SCORES, abs=1e-15),
        }
    # The protocol got these later.
    check_wire_format(seen["wire_format"], "double_param", "uint64_param")
