"""Settings: environment variables ``HEADWATER_*``, one frozen class for each kind of process.

Every class is made by ``for_repo``, which knows where a Feast repository keeps its data. What the
environment does not set, or sets to nothing, has the default shown here. ``.env.example`` lists
them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "HEADWATER_"
# In an address: a name and a password, which may hold any character, up to the last @.
_USER = re.compile(r"^([a-z]+://)?.*@", re.DOTALL | re.IGNORECASE)
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


class SettingsError(Exception):
    """A setting has a value that is not allowed; the message names it and says what is."""


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[ipv6]:port``; ValueError if it is neither."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"not an address: {address!r}")
    return match["host"].strip("[]"), int(match["port"])


@dataclass(frozen=True)
class LogUrl:
    """Where the log is.

    Attributes:
        scheme: ``file`` or ``kafka``.
        folder: absolute path of the file log; None for Kafka.
        bootstrap_servers: addresses (``host:port``) of Kafka brokers; empty for files.
    """

    scheme: Literal["file", "kafka"]
    folder: Path | None = None
    bootstrap_servers: tuple[str, ...] = ()

    @property
    def servers(self) -> str:
        """Kafka's addresses, as the URL has them."""
        return ",".join(self.bootstrap_servers)

    @classmethod
    def parse(cls, url: str) -> LogUrl:
        """Take apart ``file:///DIR`` or ``kafka://host:port[,host:port]``; else ValueError."""
        parts = urlsplit(url)
        if parts.query or parts.fragment:
            raise ValueError(f"a log URL ends with the folder or the addresses: {url!r}")
        if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
            return cls(scheme="file", folder=Path(unquote(parts.path)))
        if parts.scheme == "kafka" and parts.path in ("", "/"):
            servers = tuple(parts.netloc.split(","))
            for server in servers:
                split_address(server)
            return cls(scheme="kafka", bootstrap_servers=servers)
        raise ValueError(f"not a log URL: {url!r}")


def _checked_log_url(url: str) -> str:
    LogUrl.parse(url)
    return url


def _checked_http_url(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError(f"not an address of the web: {url!r}")
    return url.rstrip("/")


def _checked_address(address: str) -> str:
    if address:
        split_address(address)
    return address


def _checked_addresses(addresses: str) -> str:
    listed = addresses.split(",") if addresses else []
    for address in listed:
        split_address(address)
    if len(set(listed)) < len(listed) or len(listed) == 1:
        raise ValueError("two processes or more, each with an address of its own")
    return addresses


def _checked_topic(topic: str) -> str:
    if topic in (".", ".."):
        raise ValueError(f"not a topic: {topic!r}")
    # In the environment nothing is the default, so that none needs a word of its own.
    return "" if topic == "none" else topic


# A field's description says which values are allowed: it ends up in the error message.
_LogUrlText = Annotated[
    str,
    AfterValidator(_checked_log_url),
    Field(description="file:///DIR (three slashes, absolute) or kafka://host:port[,host:port]"),
]
Folder = Annotated[Path, Field(description="a folder")]
Address = Annotated[str, AfterValidator(_checked_address), Field(description="host:port")]
AddressOrNone = Annotated[
    str, AfterValidator(_checked_address), Field(description="host:port, or empty for none")
]


AddressesOrNone = Annotated[
    str,
    AfterValidator(_checked_addresses),
    Field(
        description="host:port,host:port,... with one for each process and no two alike, or empty "
        "for a single process"
    ),
]
HttpUrlOrNone = Annotated[
    str,
    AfterValidator(_checked_http_url),
    # It may name a user and a password.
    Field(description="http://host:port or https://host:port, or empty for none", repr=False),
]
_Protocol = Annotated[
    Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
    Field(description="one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
]
_Mechanism = Annotated[
    Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
    Field(description="one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
]
_TopicOrNone = Annotated[
    str,
    AfterValidator(_checked_topic),
    Field(
        pattern=r"^([A-Za-z0-9._-]{1,249})?$",
        description="a topic of up to 249 letters, digits, dots, - and _; or none",
    ),
]


def count(default: int, *, at_most: int) -> Any:
    """A field for a whole number from 1 on."""
    return Field(default, ge=1, le=at_most, description=f"a whole number from 1 to {at_most}")


def seconds(default: float, *, at_most: float) -> Any:
    """A field for seconds, 0 among them."""
    return Field(default, ge=0, le=at_most, description=f"seconds from 0 to {at_most:g}")


def positive_seconds(default: float, *, at_most: float) -> Any:
    """A field for seconds above 0."""
    return Field(default, gt=0, le=at_most, description=f"seconds above 0, up to {at_most:g}")


class Settings(BaseSettings):
    """What all kinds of process share: reading the environment, and where the log is.

    Attributes:
        log_url: the log; by default the files in the repository's ``data/log``.
        kafka_security_protocol: how brokers are spoken to.
        kafka_sasl_mechanism: how a client says who it is, with the SASL protocols.
        kafka_sasl_username: who it is.
        kafka_sasl_password: its password.
        kafka_ssl_ca_file: certificates (PEM) of those who sign the brokers'; empty for the
            system's own.
        kafka_ssl_cert_file: our certificate (PEM), for brokers that want one; empty for none.
        kafka_ssl_key_file: its private key (PEM).
        kafka_ssl_key_password: of the private key; empty for none.
        kafka_timeout_seconds: longest wait for a broker's answer to one question.
        prediction_topic: topic of what was scored; ``none`` (here empty) for no such log.
        signing_key_file: private key (PEM, Ed25519) with which model versions that this process
            publishes are signed; empty for none.
        verify_keys_file: public keys (PEM, Ed25519), one behind the other: this process refuses
            model versions that are signed by none of them; empty takes all.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    log_url: _LogUrlText = "file:///data/log"
    kafka_security_protocol: _Protocol = "PLAINTEXT"
    kafka_sasl_mechanism: _Mechanism = "PLAIN"
    kafka_sasl_username: str = ""
    kafka_sasl_password: SecretStr = SecretStr("")
    kafka_ssl_ca_file: str = ""
    kafka_ssl_cert_file: str = ""
    kafka_ssl_key_file: str = ""
    kafka_ssl_key_password: SecretStr = SecretStr("")
    kafka_timeout_seconds: float = positive_seconds(30.0, at_most=3_600)
    prediction_topic: _TopicOrNone = "predictions"
    signing_key_file: str = ""
    verify_keys_file: str = ""

    @classmethod
    def for_repo(cls, repo: Path, **given: Any) -> Self:
        """The settings of a process that works on the Feast repository in folder ``repo``.

        ``given`` (field name and value) goes before the environment. Folders come out absolute:
        a default lies in the repository, one that was set counts from the current folder. The
        state folder's is its real name, where it goes by another one.

        Raises:
            SettingsError: one line that names each wrong variable and what it may be.
        """
        data = repo.resolve() / "data"
        try:
            settings = cls(**given)
        except ValidationError as error:
            raise SettingsError(cls._explain(error)) from None
        folders: dict[str, object] = {
            name: (value if name in settings.model_fields_set else data / value).absolute()
            for name, value in settings
            if isinstance(value, Path)
        }
        # Who runs on it is told by a lock beside it, whatever name it goes by.
        folders |= {
            name: path.resolve()
            for name, path in folders.items()
            if name == "state_dir" and isinstance(path, Path)
        }
        if "log_url" not in settings.model_fields_set:
            folders["log_url"] = (data / "log").as_uri()
        return settings.model_copy(update=folders)

    @property
    def log(self) -> LogUrl:
        """The log URL, taken apart."""
        return LogUrl.parse(self.log_url)

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        problems = []
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][0])
            field = cls.model_fields.get(name)
            if field is None:
                problems.append(f"{cls.__name__} has no setting {name}")
                continue
            shown = _USER.sub(r"\1***@", str(detail["input"]))
            problems.append(f"{PREFIX}{name.upper()} is {shown!r}, must be {field.description}")
        return "; ".join(problems)


class DataflowSettings(Settings):
    """The dataflow (``headwater run``, ``replay``).

    Attributes:
        state_dir: recovery and window state.
        model_repository: root folder of the model repository.
        model_versions_kept: of each model, how many of the newest versions of the dataflow stay
            whatever becomes of them; 0 keeps all.
        examples_dir: joined vectors with their labels, as Parquet.
        datasets_dir: data sets that `headwater dataset build` makes.
        metrics_address: where Prometheus may scrape; empty for nowhere.
        idle_timeout_seconds: a partition read to its end and silent for this long (wall clock)
            no longer holds the watermark back.
        epoch_seconds: time between two snapshots; 0 is after every batch.
        shards: number of virtual shards; fixed when the state folder is created.
        workers: threads that run the flow in each process.
        addresses: where the processes that run the flow together listen to each other, in the
            order of their numbers; empty for a single process. Whoever reaches one can make the
            process do anything: they belong into a closed network.
        process: number of this one among them, from 0.
        gather_seconds: how long the processes wait for each other at the start.
        batch_bytes: most that one read takes from a partition.
        epoch_bytes_max: most that is read from a partition between two snapshots; bounds what is
            on its way inside the dataflow.
        offline_publish_seconds: time between two moments at which the offline tables show their
            open days.
        alignment_seconds: how far apart in event time two partitions may be read.
        bad_record_window: number of latest records of a partition that the next one looks at.
        bad_record_share_max: share of bad ones among them above which the flow stops.
        outage_seconds: how long Kafka or the online store may be gone before the flow ends with
            an error; it waits until then, and loses nothing either way.
        kafka_group: consumer group whose offsets show the lag; empty is ``headwater-PROJECT``.
        kafka_fetch_bytes: most that one fetch takes from a partition.
        schema_registry_url: where schemas of framed records are looked up; empty for nowhere,
            then every framed record is taken to have the schema of its definition.
        archive_url: folder or fsspec URL with files of what Kafka no longer keeps, which a replay
            reads first; empty for none.
    """

    state_dir: Folder = Path("state")
    model_repository: Folder = Path("models")
    model_versions_kept: int = Field(
        0, ge=0, le=1_000_000, description="a whole number from 0 to 1000000"
    )
    examples_dir: Folder = Path("examples")
    datasets_dir: Folder = Path("datasets")
    metrics_address: AddressOrNone = ""
    idle_timeout_seconds: float = seconds(1.0, at_most=86_400)
    epoch_seconds: float = seconds(1.0, at_most=3_600)
    shards: int = count(16, at_most=4_096)
    workers: int = count(1, at_most=256)
    addresses: AddressesOrNone = ""
    process: int = Field(0, ge=0, le=255, description="a whole number from 0 to 255")
    gather_seconds: float = positive_seconds(120.0, at_most=86_400)
    batch_bytes: int = count(2 * 1024 * 1024, at_most=1024 * 1024 * 1024)
    epoch_bytes_max: int = count(64 * 1024 * 1024, at_most=16 * 1024 * 1024 * 1024)
    offline_publish_seconds: float = seconds(60.0, at_most=86_400)
    alignment_seconds: float = positive_seconds(86_400.0, at_most=3_155_760_000)
    bad_record_window: int = count(1_000, at_most=1_000_000)
    bad_record_share_max: float = Field(0.5, ge=0, le=1, description="a number from 0 to 1")
    outage_seconds: float = seconds(600.0, at_most=31_536_000)
    kafka_group: str = ""
    kafka_fetch_bytes: int = count(2 * 1024 * 1024, at_most=256 * 1024 * 1024)
    schema_registry_url: HttpUrlOrNone = ""
    # It may name a user and a password.
    archive_url: str = Field("", repr=False, description="a folder or an fsspec URL, or empty")

    @property
    def process_addresses(self) -> tuple[str, ...]:
        """An address for each process; none for a single process."""
        return tuple(self.addresses.split(",")) if self.addresses else ()


class EvaluatorSettings(DataflowSettings):
    """The evaluator (``headwater evaluate``): reads the log as the dataflow does.

    Attributes:
        evaluate_seconds: time between two looks at the log; decisions come within one.
        evaluate_rows_max: of each model, served rows that wait for their label (some 200 bytes
            each), and as many labels that wait for their row; past it the oldest are given up.
    """

    evaluate_seconds: float = positive_seconds(1.0, at_most=3_600)
    evaluate_rows_max: int = count(1_000_000, at_most=100_000_000)


class ClientSettings(Settings):
    """Commands that talk to the running parts (``score``, ``models``, ``produce``).

    Attributes:
        scorer_address: the scorer that is called.
        model_repository: root folder of the model repository.
        client_deadline_seconds: longest wait for an answer, retries included.
        scorer_tls: whether the scorer is called with TLS; a file below says so too.
        scorer_ca_file: certificates (PEM) of those who sign the scorer's; empty for the system's
            own.
        scorer_cert_file: our certificate (PEM), for a scorer that wants one; empty for none.
        scorer_key_file: its private key (PEM).
        scorer_token: bearer token (JWT) that goes with each call; empty for none.
    """

    scorer_address: Address = "127.0.0.1:50051"
    model_repository: Folder = Path("models")
    client_deadline_seconds: float = positive_seconds(5.0, at_most=3_600)
    scorer_tls: Annotated[bool, Field(description="true or false")] = False
    scorer_ca_file: str = ""
    scorer_cert_file: str = ""
    scorer_key_file: str = ""
    scorer_token: SecretStr = SecretStr("")
