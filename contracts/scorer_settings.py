"""Settings of the scorer (``headwater serve``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from contracts.settings import (
    Address,
    AddressOrNone,
    Folder,
    HttpUrlOrNone,
    Settings,
    count,
    positive_seconds,
    seconds,
)

_Share = Annotated[float, Field(ge=0, le=1, description="a share from 0 to 1")]
_YesOrNo = Annotated[bool, Field(description="true or false")]
_Providers = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z]+ExecutionProvider(,[A-Za-z]+ExecutionProvider)*$",
        description="names of ONNX Runtime's execution providers, with commas between them",
    ),
]


class ScorerSettings(Settings):
    """The scorer (``headwater serve``).

    Attributes:
        scorer_address: where it listens.
        scorer_processes: how many processes share that address (SO_REUSEPORT).
        model_repository: root folder of the model repository.
        metrics_address: where Prometheus may scrape; empty for nowhere.
        model_poll_seconds: time between two looks for a new model version.
        in_flight_max: requests accepted at one time by a process; more are refused.
        in_flight_bytes_max: bytes of large requests (over 32 KiB) from their coming to their
            answer; past it they are refused before they are read, but for one that is alone.
        rows_per_request_max: rows in one request.
        request_bytes_max: size of one request.
        stream_in_flight_max: requests of one stream that are read before the first is answered.
        batch_wait_ms_max: longest that a request waits, while others are under way, for more to
            share its read with; an idle scorer never waits.
        default_deadline_seconds: for requests that come without a deadline.
        grace_seconds: time for requests under way to finish after SIGTERM.
        stuck_seconds: a process that has not answered to itself for so long is ended, as a function
            of an on-demand view that never returns would hold it for ever; 0 for never.
        prediction_buffer_max: scored requests that wait to be written to the prediction log;
            past it they are dropped, and counted.
        shadow_rows_max: rows that wait to be scored by versions that did not answer them (a
            shadow's, and what is compared in a rollout); past it they are dropped, and counted.
        shadow_load_max: share of its time that a process gives to them at most; 0 for none.
        explain_samples_max: orders of fields that one explanation may sample.
        onnx_providers: ONNX Runtime's execution providers, the best first.
        onnx_threads: threads that run one model.
        onnx_cache_dir: folder for optimised graphs; empty to optimise at each load.
        tls_cert_file: our certificate (PEM) and those between it and its root; empty for no TLS.
        tls_key_file: its private key (PEM).
        tls_client_ca_file: who signs callers' certificates (PEM): calls without one are refused.
            Empty for callers without certificates.
        jwks_file: public keys (JWKS) of those who sign tokens: calls without one are refused.
            Empty for callers without tokens.
        jwt_issuer: who must have issued a token.
        jwt_audience: for whom a token must be.
        insecure: whether it may listen beyond this machine without TLS or without tokens.
        traces_endpoint: OpenTelemetry collector (OTLP over gRPC); empty for no traces.
        traces_share: share of the requests without a trace of their own that are traced.
        request_log_share: share of the answered requests that get a line in the log.
    """

    scorer_address: Address = "127.0.0.1:50051"
    scorer_processes: int = count(1, at_most=256)
    model_repository: Folder = Path("models")
    metrics_address: AddressOrNone = ""
    model_poll_seconds: float = positive_seconds(0.2, at_most=3_600)
    in_flight_max: int = count(1_000, at_most=1_000_000)
    in_flight_bytes_max: int = count(16 * 1024 * 1024, at_most=64 * 1024 * 1024 * 1024)
    rows_per_request_max: int = count(10_000, at_most=1_000_000)
    request_bytes_max: int = count(4 * 1024 * 1024, at_most=1024 * 1024 * 1024)
    stream_in_flight_max: int = count(64, at_most=10_000)
    batch_wait_ms_max: Annotated[
        float, Field(ge=0, le=1_000, description="milliseconds from 0 to 1000")
    ] = 1.0
    default_deadline_seconds: float = positive_seconds(1.0, at_most=3_600)
    grace_seconds: float = seconds(5.0, at_most=3_600)
    stuck_seconds: float = seconds(10.0, at_most=3_600)
    prediction_buffer_max: int = count(10_000, at_most=10_000_000)
    shadow_rows_max: int = count(10_000, at_most=1_000_000)
    shadow_load_max: _Share = 0.25
    explain_samples_max: int = count(5_000, at_most=1_000_000)
    onnx_providers: _Providers = "CPUExecutionProvider"
    onnx_threads: int = count(1, at_most=1_024)
    onnx_cache_dir: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_client_ca_file: str = ""
    jwks_file: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    insecure: _YesOrNo = False
    traces_endpoint: HttpUrlOrNone = ""
    traces_share: _Share = 0.0
    request_log_share: _Share = 0.01
