"""A shop behind an entrance: settings with TLS and tokens, and callers who can show something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from tests.scorer.credentials import (
    AUDIENCE,
    ISSUER,
    Identity,
    authority,
    claims,
    ec_key,
    jwk,
    jwks,
    token,
)
from tests.scorer.shop import MODEL, NOON_US, ROW

SECONDS_MAX = 30.0
CA, STRANGERS_CA = authority(), authority("stranger")
KEY = ec_key()


def tls_settings(folder: Path) -> dict[str, str]:
    """Settings for TLS with a certificate for localhost."""
    certificate, key = CA.signs("scorer", "localhost").write(folder, "server")
    return {"tls_cert_file": certificate, "tls_key_file": key}


def mutual_settings(folder: Path) -> dict[str, str]:
    """Settings for TLS where callers need a certificate too."""
    file = folder / "clients.pem"
    file.write_bytes(CA.certificate_pem)
    return {**tls_settings(folder), "tls_client_ca_file": str(file)}


def token_settings(folder: Path) -> dict[str, str]:
    """Settings for tokens that ``KEY`` signs under the name ``first``."""
    file = folder / "jwks.json"
    file.write_bytes(jwks(jwk(KEY, "first")))
    return {"jwks_file": str(file), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


def channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel of its own connection to the scorer, as ``localhost``."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.ssl_target_name_override", "localhost"),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, credentials, options)


def trust(root: Identity = CA) -> grpc.ChannelCredentials:
    """Credentials of a client without a certificate."""
    return grpc.ssl_channel_credentials(root.certificate_pem)


async def score(
    address: str, credentials: grpc.ChannelCredentials | None = None, *headers: str
) -> grpc.StatusCode:
    """The status of one score on a connection of its own."""
    request = score_request(MODEL)
    async with channel(address, credentials) as opened:
        stub = scorer_pb2_grpc.ScorerServiceStub(opened)
        return await status(stub.Score(request, timeout=SECONDS_MAX, metadata=metadata(*headers)))


async def status(call: Awaitable[Any]) -> grpc.StatusCode:
    """How a call ended."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def score_request(model: str) -> scorer_pb2.ScoreRequest:
    """A request for the shop's row."""
    request = scorer_pb2.ScoreRequest(model=model)
    request.event_time.FromMicroseconds(NOON_US)
    inputs = request.rows.add().inputs
    for name, value in ROW.items():
        kind = {bool: "bool_value", int: "int64_value", float: "double_value", str: "string_value"}
        setattr(inputs[name], kind[type(value)], value)
    return request


def bearer(*models: str, **change: object) -> str:
    """A header with a good token for these models."""
    content = claims(time.time(), headwater_models=list(models), **change)
    return "Bearer " + token(KEY, "first", content)


def metadata(*headers: str) -> tuple[tuple[str, str], ...]:
    return tuple(("authorization", header) for header in headers)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that the scorer does by and by."""
    end = time.monotonic() + SECONDS_MAX
    while not await condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
