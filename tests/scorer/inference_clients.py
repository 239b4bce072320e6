"""Run by the clients' own Python: what tritonclient and KServe's client see of a scorer, as JSON.

``python inference_clients.py WHO ADDRESS``
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

NOON_US = 1_700_000_000_000_000
MODEL = "fraud"
VECTORS = [[2.5, 3.0, 1.0, 10.25, 4.0, 7.5], [4.0, 3.0, 1.0, -1.0, -2.0, 7.5]]
COLUMNS = {
    "amount": ("FP64", np.array([2.5, 4.0])),
    "items": ("INT64", np.array([3, 3])),
    "gift": ("BOOL", np.array([True, True])),
    "card": ("BYTES", np.array([b"42", b"43"], dtype=np.object_)),
    "origin": ("BYTES", np.array([b"JFK", b"JFK"], dtype=np.object_)),
    "dest": ("BYTES", np.array([b"LAX", b"LAX"], dtype=np.object_)),
}


def tensor(module: Any, name: str, datatype: str, values: Any) -> Any:
    """An input of either of tritonclient's clients."""
    made = module.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def keys_request(module: Any) -> dict[str, Any]:
    """Arguments of ``infer`` that have features read."""
    return {
        "model_name": MODEL,
        "inputs": [tensor(module, name, kind, value) for name, (kind, value) in COLUMNS.items()],
        "outputs": [module.InferRequestedOutput(name) for name in ("missing", "score")],
        "request_id": "from triton",
        "parameters": {"event_time_us": NOON_US, "channel": "champion"},
        "client_timeout": 30,
    }


def triton_answer(result: Any) -> dict[str, Any]:
    """What there is in an answer."""
    missing = result.as_numpy("missing")
    return {
        "id": result.get_response().id,
        "version": result.get_response().model_version,
        "score": result.as_numpy("score").tolist(),
        "missing": None if missing is None else [json.loads(text) for text in missing],
    }


def triton(address: str) -> dict[str, Any]:
    """All six calls with ``tritonclient.grpc``."""
    import tritonclient.grpc as module

    with module.InferenceServerClient(address) as client:
        seen = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": [
                client.is_model_ready(*one) for one in [(MODEL,), (MODEL, "1"), (MODEL, "9")]
            ],
            "server": client.get_server_metadata(as_json=True),
            "model": client.get_model_metadata(MODEL, as_json=True),
            "keys": triton_answer(client.infer(**keys_request(module))),
        }
        for datatype, dtype in (("FP64", np.float64), ("FP32", np.float32)):
            vectors = tensor(module, "features", datatype, np.array(VECTORS, dtype))
            answer = client.infer(MODEL, [vectors], model_version="1")
            seen[datatype] = triton_answer(answer)
        refused = []
        narrow = tensor(module, "features", "FP64", np.zeros((1, 5)))
        for name, inputs in (("other", [vectors]), (MODEL, [narrow])):
            try:
                client.infer(name, inputs)
            except module.InferenceServerException as error:
                refused.append(error.status())
        return {**seen, "refused": refused}


async def triton_aio(address: str) -> dict[str, Any]:
    """Scores with ``tritonclient.grpc.aio``, several at one time."""
    import tritonclient.grpc.aio as module

    async with module.InferenceServerClient(address) as client:
        answers = await asyncio.gather(*(client.infer(**keys_request(module)) for _ in range(8)))
        return {
            "live": await client.is_server_live(),
            "keys": [triton_answer(answer) for answer in answers],
        }


async def kserve(address: str) -> dict[str, Any]:
    """Scores with KServe's ``InferenceGRPCClient``, typed and raw."""
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    def request(values_of: Callable[[Any], Any]) -> Any:
        inputs = []
        for name, (kind, values) in COLUMNS.items():
            inputs.append(InferInput(name, [2], kind, values_of(values)))
        parameters = {"event_time_us": NOON_US}
        return InferRequest(MODEL, inputs, request_id="from kserve", parameters=parameters)

    def raw(values: Any) -> Any:
        return values

    def typed(values: Any) -> Any:
        return values.tolist()

    seen: dict[str, Any] = {}
    async with InferenceGRPCClient(address, timeout=30) as client:
        seen["live"] = await client.is_server_live()
        seen["ready"] = await client.is_server_ready()
        seen["model_ready"] = await client.is_model_ready(MODEL)
        for how in (typed, raw):
            answer = await client.infer(request(how))
            seen[how.__name__] = {
                "id": answer.id,
                "version": answer.model_version,
                "score": answer.outputs[0].as_numpy().tolist(),
            }
    return seen


def wire_format(file: Any) -> dict[str, Any]:
    """Calls and messages of the protocol as stubs have them: numbers, types, names."""
    messages: dict[str, Any] = {}

    def note(message: Any) -> None:
        messages[message.full_name] = {
            field.name: [field.number, field.type, field.is_repeated] for field in message.fields
        }
        for nested in message.nested_types:
            note(nested)

    for message in file.message_types_by_name.values():
        note(message)
    service = file.services_by_name["GRPCInferenceService"]
    calls = {
        one.name: [one.input_type.full_name, one.output_type.full_name] for one in service.methods
    }
    return {"calls": calls, "messages": messages}


def stubs(who: str) -> Any:
    """The file descriptor that somebody's client has."""
    if who == "kserve":
        from kserve.protocol.grpc import grpc_predict_v2_pb2 as module
    else:
        from tritonclient.grpc import service_pb2 as module
    return module.DESCRIPTOR


def main(who: str, address: str) -> None:
    """Print what one of the clients sees."""
    if who == "triton":
        seen = triton(address)
    else:
        seen = asyncio.run({"triton_aio": triton_aio, "kserve": kserve}[who](address))
    sys.stdout.write(json.dumps({**seen, "wire_format": wire_format(stubs(who))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
