"""Keeps one connection to Redis up: makes it, watches it, and makes it anew with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import hiredis
import structlog

from contracts.online_store import RedisConfig
from scorer.errors import StoreUnavailableError
from scorer.redis_wire import RedisWire, explain

_RETRY_SECONDS_MIN = 0.05
_RETRY_SECONDS_MAX = 1.0
_LIVED_SECONDS = 1.0
_CLOSED = "the online store reader is closed"
_log = structlog.get_logger()


class RedisConnection:
    """Requests to one server, over one connection that comes back by itself.

    The first attempt to connect is waited for. While the server is away requests fail at once, and
    a task of its own tries again every now and then, at most a second after the last try.
    """

    def __init__(self, config: RedisConfig, answer_seconds: float) -> None:
        """Nothing is opened yet. ``answer_seconds`` counts where the configuration has no time."""
        options = config.client_options(answer_seconds)
        self._host, self._port = str(options["host"]), int(options["port"])
        self._address = config.label
        self._answer_seconds = float(options["socket_timeout"])
        self._connect_seconds = float(options["socket_connect_timeout"])
        self._tls = _tls(options) if options.get("ssl") else None
        self._greeting = _greeting(options)
        self._wire: RedisWire | None = None
        self._settled = asyncio.Event()
        self._trouble = ""
        self._keeper: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """``host:port``, for people."""
        return self._address

    async def ask(self, request: bytes, replies: int) -> list[Any]:
        """Send commands that have so many replies, and give these, errors among them.

        Raises:
            StoreUnavailableError: the server is away, was lost or did not answer in time.
        """
        while (wire := self._wire) is None:
            if self._trouble:
                raise StoreUnavailableError(self._trouble)
            if self._keeper is None:
                self._keeper = asyncio.create_task(self._keep())
            await self._settled.wait()
        return await wire.ask(request, replies)

    async def close(self) -> None:
        """End the connection; requests under way fail."""
        self._trouble = _CLOSED
        self._settled.set()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    async def _keep(self) -> None:
        """Have a connection, again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        delay_seconds, failures = _RETRY_SECONDS_MIN, 0
        while True:
            try:
                wire = await self._connect()
            except StoreUnavailableError as error:
                failures += 1
                # One failure may be all that a short command sees; its caller tells of it.
                if failures == 2:
                    _log.warning("redis_away", address=self._address, reason=str(error))
                delay_seconds = await self._pause(str(error), delay_seconds)
                continue
            if failures:
                _log.info("redis_back", address=self._address)
            failures = 0
            self._wire, self._trouble = wire, ""
            self._settled.set()
            made_at = loop.time()
            try:
                reason = await asyncio.shield(wire.lost)
            finally:
                wire.end(_CLOSED)
            _log.warning("redis_lost", address=self._address, reason=reason)
            if loop.time() - made_at < _LIVED_SECONDS:
                # A server that hangs up as soon as it has let us in is not asked without a pause.
                delay_seconds = await self._pause(reason, delay_seconds)
            else:
                delay_seconds = _RETRY_SECONDS_MIN

    def _ended(self) -> None:
        """From now on requests wait for the next connection, or for it to fail."""
        if self._wire is not None:
            self._wire = None
            self._settled.clear()

    async def _pause(self, reason: str, delay_seconds: float) -> float:
        """Let requests fail with the reason for a while; gives the length of the next pause."""
        self._trouble = reason
        self._settled.set()
        await asyncio.sleep(delay_seconds)
        return min(2 * delay_seconds, _RETRY_SECONDS_MAX)

    async def _connect(self) -> RedisWire:
        """A connection that is logged in and has answered.

        Raises:
            StoreUnavailableError: there is none; the text says why.
        """
        loop = asyncio.get_running_loop()
        wire = RedisWire(self._address, self._answer_seconds, self._ended)
        try:
            async with asyncio.timeout(self._connect_seconds):
                transport, _ = await loop.create_connection(
                    lambda: wire, self._host, self._port, ssl=self._tls
                )
                # A peer that vanished without a word is noticed while nobody reads, too.
                transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
                )
                replies = await wire.ask(b"".join(self._greeting), len(self._greeting))
        except TimeoutError:
            problem = (
                f"Redis at {self._address} did not answer within {self._connect_seconds:g} seconds;"
                " try again"
            )
        except (OSError, UnicodeError) as error:
            why = "connection refused" if isinstance(error, ConnectionRefusedError) else error
            problem = f"Redis at {self._address} cannot be reached: {why}; try again"
        except StoreUnavailableError as error:
            problem = str(error)
        except asyncio.CancelledError:
            wire.end(_CLOSED)
            raise
        else:
            errors = [one for one in replies if isinstance(one, hiredis.ReplyError)]
            if not errors:
                return wire
            problem = explain(self._address, errors[0])
        wire.end(problem)
        raise StoreUnavailableError(problem)


def _greeting(options: Mapping[str, Any]) -> list[bytes]:
    """The commands that begin a connection; the last one shows that the server answers."""
    commands: list[tuple[str, ...]] = []
    username, password = options.get("username"), options.get("password")
    if username is not None:
        commands.append(("AUTH", username, password or ""))
    elif password is not None:
        commands.append(("AUTH", password))
    if options.get("client_name"):
        commands.append(("CLIENT", "SETNAME", options["client_name"]))
    if options.get("db"):
        commands.append(("SELECT", str(options["db"])))
    commands.append(("PING",))
    return [
        b"*%d\r\n" % len(command)
        + b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in command)
        for command in commands
    ]


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    """The TLS settings with redis-py's defaults: the certificate and its host name are checked."""
    context = ssl.create_default_context()
    check = options.get("ssl_cert_reqs", "required")
    context.check_hostname = check != "none" and options.get("ssl_check_hostname", True)
    context.verify_mode = {
        "none": ssl.CERT_NONE,
        "optional": ssl.CERT_OPTIONAL,
        "required": ssl.CERT_REQUIRED,
    }[check]
    if options.get("ssl_ca_certs") or options.get("ssl_ca_data"):
        context.load_verify_locations(
            cafile=options.get("ssl_ca_certs"), cadata=options.get("ssl_ca_data")
        )
    if options.get("ssl_certfile"):
        context.load_cert_chain(
            options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password")
        )
    return context
