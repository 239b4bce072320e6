"""TLS, certificates and tokens of the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from contracts.settings import ClientSettings
from scorer.client import (
    AsyncScorerClient,
    ClientOptions,
    Retries,
    ScoreItem,
    ScorerCallError,
    ScorerClient,
    Tls,
    UnavailableError,
)
from tests.scorer.credentials import Identity, authority
from tests.scorer.scripted import Script, awaited, blocking, scripted

SECRET = "eyJ.secret.token"
ROW = {"amount": 2.5}
Ask = Callable[..., Any]
both = pytest.mark.parametrize("ask", [blocking, awaited])


@pytest.fixture(scope="module")
def root() -> Identity:
    """Who signs certificates in this module."""
    return authority()


def server_credentials(root: Identity, *, asks: bytes | None = None) -> grpc.ServerCredentials:
    """For a server named scorer.test; ``asks`` is who signs the certificates of its clients."""
    identity = root.signs("scorer", "scorer.test")
    pair = (identity.key_pem, identity.certificate_pem)
    return grpc.ssl_server_credentials([pair], asks, asks is not None)


@both
def test_tls_trusts_only_whom_it_is_told(ask: Ask, root: Identity) -> None:
    """The scorer's certificate must be signed by the CA that was given, and have the name."""
    quick = Retries(tries_max=1)
    good = Tls(root.certificate_pem, server_name="scorer.test")
    with scripted(Script(), server_credentials(root)) as address:
        assert ask(address, "score", "m", ROW, options=ClientOptions(tls=good)).score == 0.5
        for wrong in (
            Tls(authority().certificate_pem, server_name="scorer.test"),
            Tls(root.certificate_pem, server_name="other.test"),
            Tls(root.certificate_pem),
            Tls(server_name="scorer.test"),
            None,
        ):
            with pytest.raises(UnavailableError):
                ask(address, "score", "m", ROW, options=ClientOptions(quick, wrong))


@both
def test_mutual_tls(ask: Ask, root: Identity, tmp_path: Path) -> None:
    """With a certificate of its own the client is let in, without one it is not."""
    (tmp_path / "ca.pem").write_bytes(root.certificate_pem)
    files = root.signs("ann").write(tmp_path, "ann")
    ours = Tls.from_files(str(tmp_path / "ca.pem"), *files, server_name="scorer.test")
    credentials = server_credentials(root, asks=root.certificate_pem)
    with scripted(Script(), credentials) as address:
        assert ask(address, "score", "m", ROW, options=ClientOptions(tls=ours)).score == 0.5
        nobody = ClientOptions(
            Retries(tries_max=1), Tls(root.certificate_pem, server_name="scorer.test")
        )
        with pytest.raises(UnavailableError):
            ask(address, "score", "m", ROW, options=nobody)


@both
def test_each_try_asks_for_the_token(ask: Ask) -> None:
    """A function that gives the token is asked at each try, so that a new one is used at once."""
    tokens = iter(["first", "second", "third"])
    script = Script([grpc.StatusCode.UNAVAILABLE])
    options = ClientOptions(token=lambda: next(tokens))
    with scripted(script) as address:
        ask(address, "score", "m", ROW, options=options)
        ask(address, "score_stream", [ScoreItem("m", ROW)], options=options)
    sent = [came.metadata["authorization"] for came in script.came]
    assert sent == ["Bearer first", "Bearer second", "Bearer third"]


def test_a_token_may_be_waited_for() -> None:
    """With asyncio the token may come from a coroutine; the blocking client says it cannot wait."""

    async def token() -> str:
        await asyncio.sleep(0)
        return "late"

    script = Script()
    with scripted(script) as address:
        awaited(address, "score", "m", ROW, options=ClientOptions(token=token))
        given = token()
        with pytest.raises(TypeError, match="asyncio"):
            blocking(address, "score", "m", ROW, options=ClientOptions(token=lambda: given))
        given.close()
    assert script.came[0].metadata["authorization"] == "Bearer late"


@pytest.mark.parametrize("kind", [ScorerClient, AsyncScorerClient])
@pytest.mark.parametrize(
    "address", ["10.0.0.1:50051", "scorer.test:50051", "[2001:db8::1]:50051", "dns:///localhost:1"]
)
def test_no_token_goes_into_the_open(kind: Any, address: str) -> None:
    """Without TLS a token is refused for every address beyond this machine, and not repeated."""
    with pytest.raises(ValueError, match="TLS") as caught:
        kind(address, options=ClientOptions(token=SECRET))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_a_token_may_stay_on_this_machine(address: str) -> None:
    """On loopback a token may go without TLS."""
    with ScorerClient(address, options=ClientOptions(token=SECRET)) as client:
        assert SECRET not in repr(client)


@both
def test_a_token_is_never_told(ask: Ask) -> None:
    """Neither what describes a client nor what it raises repeats its token."""
    options = ClientOptions(token=SECRET, tls=Tls(b"ca", b"cert", b"private"))
    assert SECRET not in repr(options)
    assert "private" not in repr(options)
    script = Script([grpc.StatusCode.UNAUTHENTICATED])
    with scripted(script) as address:
        with pytest.raises(ScorerCallError) as caught:
            ask(address, "score", "m", ROW, options=ClientOptions(token=SECRET))
        told: BaseException | None = caught.value
        while told is not None:
            assert SECRET not in f"{told} {told!r}"
            told = told.__cause__
        for bad in (f"{SECRET}\n", f"{SECRET}é", ""):
            with pytest.raises(ValueError, match="token") as refused:
                ask(address, "score", "m", ROW, options=ClientOptions(token=lambda: bad))  # noqa: B023
            assert SECRET not in str(refused.value)
    assert len(script.came) == 1


def test_settings_say_all_of_it(root: Identity, tmp_path: Path) -> None:
    """The environment's TLS files and token are used; the token is not in what describes them."""
    (tmp_path / "ca.pem").write_bytes(root.certificate_pem)
    cert_file, key_file = root.signs("ann").write(tmp_path, "ann")
    identity = root.signs("scorer", "127.0.0.1")
    credentials = grpc.ssl_server_credentials(
        [(identity.key_pem, identity.certificate_pem)],
        root.certificate_pem,
        require_client_auth=True,
    )
    script = Script()
    with scripted(script, credentials) as address:
        settings = ClientSettings(
            scorer_address=address,
            client_deadline_seconds=9.0,
            scorer_ca_file=str(tmp_path / "ca.pem"),
            scorer_cert_file=cert_file,
            scorer_key_file=key_file,
            scorer_token=SECRET,  # type: ignore[arg-type]
        )
        with ScorerClient.from_settings(settings) as client:
            assert client.score("m", ROW).score == 0.5
            assert SECRET not in repr(client)
    came = script.came[0]
    assert came.metadata["authorization"] == f"Bearer {SECRET}"
    assert came.left_seconds is not None
    assert 5 < came.left_seconds < 10
