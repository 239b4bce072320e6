"""TLS and client certificates over real sockets, their files, and the health check."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from scorer import healthcheck
from scorer.entrance import open_entrance
from scorer.server import running
from scorer.v1 import scorer_pb2_grpc
from tests.scorer.credentials import Identity
from tests.scorer.secured import (
    CA,
    SECONDS_MAX,
    STRANGERS_CA,
    channel,
    score,
    score_request,
    status,
    trust,
    until,
)
from tests.scorer.shop import MODEL, Shop

ROOT = Path(__file__).resolve().parents[2]
NOTHING: Any = b""


def test_tls_is_for_those_who_trust_it(scorer_shop: Shop, tls: dict[str, str]) -> None:
    """Who trusts the scorer's root is answered; others, and those without TLS, cannot connect."""

    async def run() -> None:
        async with running(scorer_shop.settings(**tls), scorer_shop.folder) as address:
            assert await score(address, trust()) is grpc.StatusCode.OK
            assert await score(address, trust(STRANGERS_CA)) is grpc.StatusCode.UNAVAILABLE
            assert await score(address) is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())


def test_mutual_tls_asks_for_a_certificate(scorer_shop: Shop, mutual: dict[str, str]) -> None:
    """Only a caller whose certificate the right authority has signed can connect."""
    friend, stranger = CA.signs("billing"), STRANGERS_CA.signs("billing")

    async def run() -> None:
        async with running(scorer_shop.settings(**mutual), scorer_shop.folder) as address:
            assert await score(address, friend.channel(CA)) is grpc.StatusCode.OK
            assert await score(address, stranger.channel(CA)) is grpc.StatusCode.UNAVAILABLE
            assert await score(address, trust()) is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("billing", "b.test"), "billing"), (("", "b.test", "c.test"), "b.test"), (("",), "")],
)
def test_the_certificate_names_the_caller(
    scorer_shop: Shop, mutual: dict[str, str], names: tuple[str, ...], expected: str
) -> None:
    """The common name, or else the first other name, is who calls; everything is allowed."""
    entrance = open_entrance(scorer_shop.settings(**mutual))

    async def run() -> None:
        async with _echo(entrance.credentials, entrance.callers.identify) as (address, callers):
            async with channel(address, CA.signs(*names).channel(CA)) as opened:
                await opened.unary_unary("/echo.Echo/Echo")(NOTHING, timeout=SECONDS_MAX)
            assert [(one.name, one.models) for one in callers] == [(expected, None)]

    asyncio.run(run())


@asynccontextmanager
async def _echo(
    credentials: grpc.ServerCredentials | None, identify: Callable[..., Any]
) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that remembers who called."""
    callers: list[Any] = []

    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        callers.append(identify(context.invocation_metadata(), context.auth_context))
        return request

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    assert credentials is not None
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", callers
    finally:
        await server.stop(None)


def test_a_new_certificate_is_taken_while_it_runs(scorer_shop: Shop, tls: dict[str, str]) -> None:
    """New connections get the new certificate, open ones go on; half-replaced files wait."""
    new = STRANGERS_CA.signs("scorer", "localhost")
    certificate, key = Path(tls["tls_cert_file"]), Path(tls["tls_key_file"])

    async def run() -> None:
        async with (
            running(scorer_shop.settings(**tls), scorer_shop.folder) as address,
            channel(address, trust()) as old,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(old)
            await stub.Score(score_request(MODEL), timeout=SECONDS_MAX)
            with capture_logs() as logs:
                certificate.write_bytes(new.certificate_pem)  # noqa: ASYNC240 - some bytes
                await until(_told(logs))
            assert [one["reason"] for one in logs if one["event"] == "file_not_taken"] == [
                f"HEADWATER_TLS_KEY_FILE={key}: is not the key of the certificate in "
                f"HEADWATER_TLS_CERT_FILE={certificate}: name the one that is"
            ]
            assert await score(address, trust()) is grpc.StatusCode.OK
            key.write_bytes(new.key_pem)  # noqa: ASYNC240 - some bytes

            async def taken() -> bool:
                return await score(address, trust(STRANGERS_CA)) is grpc.StatusCode.OK

            await until(taken)
            assert await score(address, trust()) is grpc.StatusCode.UNAVAILABLE
            await stub.Score(score_request(MODEL), timeout=SECONDS_MAX)

    asyncio.run(run())


def _told(logs: list[Any]) -> Callable[[], Awaitable[bool]]:
    async def told() -> bool:
        return any(one["event"] == "file_not_taken" for one in logs)

    return told


def test_a_new_authority_is_taken_too(scorer_shop: Shop, mutual: dict[str, str]) -> None:
    """Who signs callers' certificates may change without a restart."""
    entrance = open_entrance(scorer_shop.settings(**mutual))
    friend, stranger = CA.signs("a"), STRANGERS_CA.signs("a")

    async def run() -> None:
        async with _echo(entrance.credentials, entrance.callers.identify) as (address, _):

            async def gets_in(who: Identity) -> bool:
                async with channel(address, who.channel(CA)) as opened:
                    call: Awaitable[Any] = opened.unary_unary("/echo.Echo/Echo")(
                        NOTHING, timeout=SECONDS_MAX
                    )
                    return await status(call) is grpc.StatusCode.OK

            assert await gets_in(friend)
            assert not await gets_in(stranger)
            Path(mutual["tls_client_ca_file"]).write_bytes(  # noqa: ASYNC240 - some bytes
                STRANGERS_CA.certificate_pem
            )
            entrance.sources[0].look()
            assert await gets_in(stranger)
            assert not await gets_in(friend)

    asyncio.run(run())


@pytest.mark.parametrize("names", [("scorer", "localhost"), ("*.inside.test",), ("", "10.0.0.1")])
def test_the_health_check_gets_in(
    scorer_shop: Shop,
    mutual: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
) -> None:
    """The health check trusts the scorer's own certificate, whatever host it names."""
    CA.signs(*names).write(scorer_shop.folder, "server")
    certificate, key = CA.signs("probe").write(scorer_shop.folder, "probe")
    probe = {"scorer_cert_file": certificate, "scorer_key_file": key}
    one_way = {name: value for name, value in mutual.items() if name != "tls_client_ca_file"}

    async def run(settings: dict[str, str], asked_with: dict[str, str]) -> int:
        async with running(scorer_shop.settings(**settings), scorer_shop.folder) as address:
            with monkeypatch.context() as environment:
                for name, value in {**asked_with, "scorer_address": address}.items():
                    environment.setenv(f"HEADWATER_{name.upper()}", value)
                return await asyncio.to_thread(healthcheck.main)

    assert asyncio.run(run(one_way, one_way)) == 0
    assert asyncio.run(run(mutual, mutual)) == 0
    assert asyncio.run(run(mutual, {**mutual, **probe})) == 0
    assert asyncio.run(run(mutual, one_way)) == 1
    assert asyncio.run(run(one_way, {})) == 1


def test_the_health_check_is_a_command(scorer_shop: Shop, tls: dict[str, str]) -> None:
    """``python -m scorer.healthcheck`` exits 0 if all is well, else 1; it names a wrong file."""

    def ask(address: str, **settings: str) -> subprocess.CompletedProcess[str]:
        given = {**settings, "scorer_address": address}
        return subprocess.run(
            [sys.executable, "-m", "scorer.healthcheck"],
            cwd=ROOT,
            env={**os.environ, **{f"HEADWATER_{name.upper()}": given[name] for name in given}},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )

    async def run() -> None:
        async with running(scorer_shop.settings(**tls), scorer_shop.folder) as address:
            done = await asyncio.to_thread(ask, address, **tls)
            assert (done.returncode, done.stdout) == (0, "")
            done = await asyncio.to_thread(ask, address, **{**tls, "tls_cert_file": "nowhere"})
            assert done.returncode == 1
            assert done.stderr == (
                "HEADWATER_TLS_CERT_FILE=nowhere: cannot be read: No such file or directory\n"
            )

    asyncio.run(run())


def test_keys_are_not_shown(scorer_shop: Shop, mutual: dict[str, str]) -> None:
    """The text form of what holds private keys does not hold them."""
    tls = open_entrance(scorer_shop.settings(**mutual)).sources[0]
    assert b"PRIVATE KEY" in tls.value.key  # type: ignore[attr-defined]
    assert "PRIVATE KEY" not in repr(tls.value)
