"""Asks a schema registry which schema a number stands for, and remembers the answers.

It speaks the HTTP interface that Confluent's registry made common: ``GET /schemas/ids/NUMBER``.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any, NoReturn
from urllib.parse import unquote, urlsplit, urlunsplit

from contracts.log import LogError

SCHEMAS_MAX = 1_000
ANSWER_BYTES_MAX = 16 * 1024 * 1024
# An unknown number is asked for again after this long: registries copy from one another.
UNKNOWN_SECONDS = 60.0
_WAIT_SECONDS_MIN = 0.1
_WAIT_SECONDS_MAX = 5.0
_SCHEMA_NOT_FOUND = 40403
_PASSING = (408, 429, 500, 502, 503, 504)


class UnusableSchemaError(ValueError):
    """What the registry says of a number cannot be used: records with it are bad records."""


class _TryAgainError(Exception):
    """The registry is gone for now."""


class SchemaRegistry:
    """A schema registry at an address. Safe for threads.

    Args:
        url: ``http[s]://[user:password@]host[:port][/path]``.
        timeout_seconds: longest wait for one answer.
        patience_seconds: a registry that does not answer is asked again for so long.
        wait: called with seconds between two tries; true ends the tries.
        tell: called with what is waited for, and with an empty text when that is over.
        monotonic: clock in seconds.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float = 5.0,
        patience_seconds: float = 60.0,
        wait: Callable[[float], bool | None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        self._wait = wait
        self._monotonic = monotonic
        self._tell = tell
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._lock = threading.Lock()
        self._known: dict[int, str] = {}
        self._unknown: dict[int, tuple[float, str]] = {}

    def avro_schema(self, number: int) -> str:
        """The Avro schema with this number, as JSON.

        Raises:
            UnusableSchemaError: the registry has none, or none that can be used.
            LogError: the registry cannot be asked; nothing can be said about the records.
        """
        with self._lock:
            if number in self._known:
                return self._known[number]
            until, reason = self._unknown.get(number, (0.0, ""))
            if reason and self._monotonic() < until:
                raise UnusableSchemaError(reason)
            try:
                schema = _avro_of(self._ask_patiently(number), number)
            except UnusableSchemaError as error:
                _put(self._unknown, number, (self._monotonic() + UNKNOWN_SECONDS, str(error)))
                raise
            _put(self._known, number, schema)
            return schema

    def _ask_patiently(self, number: int) -> dict[str, Any]:
        try:
            return self._ask(number)
        finally:
            self._tell("")

    def _ask(self, number: int) -> dict[str, Any]:
        """The registry's answer, however often it has to be asked."""
        give_up_at = self._monotonic() + self._patience_seconds
        wait_seconds = _WAIT_SECONDS_MIN
        while True:
            try:
                return self._ask_once(number)
            except _TryAgainError as error:
                self._tell(f"schema registry {self._url} to answer")
                is_over = self._monotonic() + wait_seconds > give_up_at
                if is_over or self._wait(wait_seconds):
                    raise LogError(
                        f"schema registry {self._url} does not answer ({error}), so records with "
                        f"schema {number} cannot be read; start it or mend "
                        "HEADWATER_SCHEMA_REGISTRY_URL, then run again: nothing was lost"
                    ) from error
                wait_seconds = min(wait_seconds * 2, _WAIT_SECONDS_MAX)

    def _ask_once(self, number: int) -> dict[str, Any]:
        request = urllib.request.Request(f"{self._url}/schemas/ids/{number}", headers=self._headers)
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as response:
                answer = _json_object(response)
        except urllib.error.HTTPError as error:
            with error:
                self._explain(error, number)
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgainError(str(error) or type(error).__name__) from error
        if answer is None or not isinstance(answer.get("schema"), str):
            raise self._misplaced("answered with something else than a schema")
        return answer

    def _explain(self, error: urllib.error.HTTPError, number: int) -> NoReturn:
        """Raise what an answer other than 200 means."""
        if error.code in _PASSING:
            raise _TryAgainError(f"HTTP status {error.code}")
        if error.code in (401, 403):
            raise LogError(
                f"schema registry {self._url} refuses us (HTTP status {error.code}); set "
                "HEADWATER_SCHEMA_REGISTRY_URL=http://USER:PASSWORD@HOST:PORT"
            )
        answer = _json_object(error) or {}
        # A web server that is no registry also says 404: that is no reason to drop records.
        if error.code == 404 and answer.get("error_code") == _SCHEMA_NOT_FOUND:
            raise UnusableSchemaError(f"the schema registry has no schema {number}")
        raise self._misplaced(f"answered with HTTP status {error.code}")

    def _misplaced(self, what: str) -> LogError:
        return LogError(
            f"{self._url}/schemas/ids {what}: is HEADWATER_SCHEMA_REGISTRY_URL the address of a "
            "schema registry, with the path if it has one?"
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Goes nowhere: a password is meant for one host only."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _json_object(response: IO[bytes]) -> dict[str, Any] | None:
    """The JSON object in an answer; None if it is none, or too large a one."""
    try:
        body = response.read(ANSWER_BYTES_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _TryAgainError(str(error) or type(error).__name__) from error
    if len(body) > ANSWER_BYTES_MAX:
        return None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _avro_of(answer: dict[str, Any], number: int) -> str:
    kind = answer.get("schemaType") or "AVRO"
    if kind != "AVRO":
        raise UnusableSchemaError(f"schema {number} is of the type {kind}, not AVRO")
    if answer.get("references"):
        raise UnusableSchemaError(
            f"schema {number} refers to other schemas; register it as one that stands by itself"
        )
    return str(answer["schema"])


def _put(kept: dict[int, Any], number: int, value: Any) -> None:
    """Remember; of too many the oldest is forgotten."""
    kept.pop(number, None)
    if len(kept) >= SCHEMAS_MAX:
        del kept[next(iter(kept))]
    kept[number] = value
