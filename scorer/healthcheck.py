"""``python -m scorer.healthcheck``: exit 0 if the scorer on this machine says SERVING, else 1.

With TLS it trusts exactly the certificate in the scorer's own file, and expects its name. Where
callers need a certificate it shows that of HEADWATER_SCORER_CERT_FILE, or else the scorer's own:
the scorer's must then be signed by HEADWATER_TLS_CLIENT_CA_FILE, and be valid for clients too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from contracts.scorer_settings import ScorerSettings
from contracts.settings import ClientSettings, SettingsError
from scorer.errors import ConfigurationError
from scorer.reloading import NamedFile

TIMEOUT_SECONDS = 3.0


def is_serving(channel: grpc.Channel) -> bool:
    """Whether a scorer answers there and takes calls."""
    try:
        answer = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def open_channel(scorer: ScorerSettings, client: ClientSettings) -> grpc.Channel:
    """A channel to the scorer of these settings; ConfigurationError if a file cannot be used."""
    if not scorer.tls_cert_file:
        return grpc.insecure_channel(scorer.scorer_address)
    from scorer.tls import name_in

    own = NamedFile("HEADWATER_TLS_CERT_FILE", Path(scorer.tls_cert_file))
    shown = (
        NamedFile("HEADWATER_SCORER_CERT_FILE", Path(client.scorer_cert_file)),
        NamedFile("HEADWATER_SCORER_KEY_FILE", Path(client.scorer_key_file)),
    )
    if not client.scorer_cert_file:
        shown = own, NamedFile("HEADWATER_TLS_KEY_FILE", Path(scorer.tls_key_file))
    certificate, key = (
        (file.read() for file in shown) if scorer.tls_client_ca_file else (None, None)
    )
    content = own.read()
    return grpc.secure_channel(
        scorer.scorer_address,
        grpc.ssl_channel_credentials(content, key, certificate),
        # It listens at an address that its certificate need not name.
        [("grpc.ssl_target_name_override", name_in(own, content))],
    )


def main() -> int:
    """Ask the scorer that listens at HEADWATER_SCORER_ADDRESS; returns the exit code."""
    try:
        scorer = ScorerSettings.for_repo(Path())
        channel = open_channel(scorer, ClientSettings.for_repo(Path()))
    except (SettingsError, ConfigurationError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with channel:
        return 0 if is_serving(channel) else 1


if __name__ == "__main__":
    sys.exit(main())
