"""redis-py's clients as ``feature_store.yaml`` wants them, and what their errors mean to us."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    ClusterError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TryAgainError,
)
from redis.retry import Retry

from contracts.online_store import RedisConfig
from dataflows.stores.online_writer import OnlineStoreError, OnlineStoreGoneError

_SIGN_IN_ERRORS = (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
)
_FINAL_OS_ERRORS = (ssl.SSLCertVerificationError, FileNotFoundError, PermissionError)
# Replies that pass by themselves or with an operator's help, without a class of their own.
_PASSING_REPLIES = ("MISCONF", "NOREPLICAS", "BUSY ", "CLUSTERDOWN", "MASTERDOWN", "LOADING")
_GONE = (
    redis.ConnectionError,
    redis.TimeoutError,
    ReadOnlyError,
    # Slots on their way from node to node; MovedError is one of them.
    AskError,
    TryAgainError,
    ClusterError,
    RedisClusterException,
    OSError,
)


def open_server(config: RedisConfig, timeout_seconds: float) -> redis.Redis:
    """A client of the one server; it connects when it is used and never tries again by itself."""
    options = config.client_options(timeout_seconds)
    return redis.Redis(retry=Retry(NoBackoff(), 0), **options)


def open_cluster(config: RedisConfig, timeout_seconds: float) -> RedisCluster:
    """A client of the cluster; asks a node for the layout at once.

    Raises:
        Exception: as redis-py makes them; see ``store_errors``.
    """
    nodes = [
        ClusterNode(host, port)  # type: ignore[no-untyped-call]
        for host, port in config.addresses
    ]
    try:
        return RedisCluster(startup_nodes=nodes, **config.client_options(timeout_seconds))
    except BaseException:
        # redis-py leaves the connections of an attempt that failed to the garbage collector.
        for node in nodes:
            if node.redis_connection is not None:
                node.redis_connection.close()
        raise


def open_client(config: RedisConfig, timeout_seconds: float) -> redis.Redis | RedisCluster:
    """A client of whatever the configuration names."""
    if config.is_cluster:
        return open_cluster(config, timeout_seconds)
    return open_server(config, timeout_seconds)


@contextmanager
def store_errors(config: RedisConfig) -> Iterator[None]:
    """Turns redis-py's errors into ours.

    Raises:
        OnlineStoreGoneError: Redis does not answer or takes no writes now.
        OnlineStoreError: it refuses us; the message says what to do.
    """
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise store_error(error, config) from error


def store_error(error: Exception, config: RedisConfig) -> OnlineStoreError:
    """What an error of redis-py means: OnlineStoreGoneError where asking again later may do."""
    where = f"Redis at {config.label}"
    chain = list(_chain(error))
    for cause in chain:
        advice = _advice(cause, config)
        if advice:
            return OnlineStoreError(f"{where} refuses: {_line(cause)}; {advice}")
    if isinstance(error, _GONE) or _line(error).startswith(_PASSING_REPLIES):
        return OnlineStoreGoneError(
            f"{where} does not take writes now: {_line(error)}",
            "see that it runs, then start again; nothing is lost",
        )
    return OnlineStoreError(f"{where} refuses: {_line(error)}; see docs/operations.md")


def _advice(error: BaseException, config: RedisConfig) -> str:
    """What to do about an error that does not pass by itself; empty for others."""
    text = _line(error)
    if isinstance(error, _SIGN_IN_ERRORS):
        return "correct username and password in connection_string of feature_store.yaml"
    if isinstance(error, OutOfMemoryError):
        return "give it more memory (maxmemory) or set key_ttl_seconds, then start again"
    if isinstance(error, MovedError) and not config.is_cluster:
        return "it is part of a cluster: set redis_type: redis_cluster in feature_store.yaml"
    if "Cluster mode is not enabled" in text:
        return "it is no cluster: set redis_type: redis in feature_store.yaml"
    if "DB index is out of range" in text:
        return "correct db in connection_string of feature_store.yaml"
    if text.startswith("WRONGTYPE"):
        return "a key of ours holds something else: give Feast a db of its own"
    if (
        isinstance(error, _FINAL_OS_ERRORS)
        or getattr(error, "reason", "") == "WRONG_VERSION_NUMBER"
    ):
        return "correct ssl=true, ssl_ca_certs and the other ssl_ options in connection_string"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it; redis-py wraps those of sockets in its own."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _line(error: BaseException) -> str:
    # A pipeline puts the command before it, with keys and values that are nobody's business.
    text = str(error).rpartition(" of pipeline caused error: ")[2]
    return (text or type(error).__name__).splitlines()[0].rstrip(" .")
