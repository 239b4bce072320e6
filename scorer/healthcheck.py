"""``python -m scorer.healthcheck``: exit 0 if the scorer on this machine says SERVING, else 1."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from contracts.scorer_settings import ScorerSettings
from contracts.settings import SettingsError

TIMEOUT_SECONDS = 3.0


def is_serving(address: str) -> bool:
    """Whether a scorer answers at ``host:port`` and takes calls."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> int:
    """Ask the scorer that listens at HEADWATER_SCORER_ADDRESS; returns the exit code."""
    try:
        settings = ScorerSettings.for_repo(Path())
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if is_serving(settings.scorer_address) else 1


if __name__ == "__main__":
    sys.exit(main())
