"""Clients of Kafka over TLS and SASL, against a real broker, and what they say when it refuses."""

from __future__ import annotations

import gc
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from contracts.kafka_client import connection_options, open_client
from contracts.kafka_producer import KafkaLogWriter
from contracts.log import LogError
from contracts.settings import ClientSettings, SettingsError
from tests.services.kafka import KafkaBroker
from tests.services.server import free_ports

SECRET = "n0t-to-be-seen"
WRONG = "als0-n0t-to-be-seen"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
TIMEOUT_SECONDS = 10.0
_SECURITY = "org.apache.kafka.common.security"
_PLAIN = f'{_SECURITY}.plain.PlainLoginModule required user_ada="{SECRET}";'
_SCRAM = f"{_SECURITY}.scram.ScramLoginModule required;"

# kafka-python 3.0 leaves it to Python to close a socket whose handshake failed.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(ssl.SSLS|socket.s)ocket:ResourceWarning")


@pytest.fixture(autouse=True, scope="module")
def _little_to_look_through() -> Iterator[None]:
    """What was there before these tests is not looked through after each of them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _sockets_closed_here() -> Iterator[None]:
    """What Python closes, it closes while this module's tests say that it is expected."""
    yield
    gc.collect()


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)


def _certificate_of_its_own(folder: Path, name: str) -> None:
    words = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}")
    _openssl(folder, *words, "-keyout", f"{name}.key", "-out", f"{name}.pem")


def _signed(folder: Path, name: str, extension: str) -> None:
    """``NAME.key`` and ``NAME.pem``, signed by ``ca``."""
    request = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}")
    _openssl(folder, *request, "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (folder / f"{name}.ext").write_text(extension)
    sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key")
    more = ("-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
    _openssl(folder, *sign, *more)


@dataclass(frozen=True)
class SafeBroker:
    """A broker with TLS and SASL, and the folder of everybody's certificates."""

    broker: KafkaBroker
    folder: Path

    def settings(self, listener: str, **given: object) -> ClientSettings:
        """Settings of a client that trusts the broker and is Ada where that is asked."""
        return ClientSettings.for_repo(
            self.folder,
            **{
                "log_url": f"kafka://{self.broker.address(listener)}",
                "kafka_timeout_seconds": TIMEOUT_SECONDS,
                "kafka_ssl_ca_file": str(self.folder / "ca.pem"),
                "kafka_sasl_username": "ada",
                "kafka_sasl_password": SECRET,
                **given,
            },
        )


@pytest.fixture(scope="module")
def safe_broker(
    _kafka_to_be_had: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SafeBroker]:
    """One broker for this module."""
    folder = tmp_path_factory.mktemp("certificates")
    _certificate_of_its_own(folder, "ca")
    _certificate_of_its_own(folder, "stranger")
    _signed(folder, "broker", "subjectAltName=IP:127.0.0.1\n")
    _signed(folder, "client", "")
    key_and_chain = (folder / "broker.key").read_text() + (folder / "broker.pem").read_text()
    (folder / "keystore.pem").write_text(key_and_chain)
    properties = {
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "keystore.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
    }
    for listener in ("both", "clear"):
        for mechanism in MECHANISMS:
            name = f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config"
            properties[name] = _PLAIN if mechanism == "PLAIN" else _SCRAM
    broker = KafkaBroker(
        tmp_path_factory.mktemp("kafka"),
        listeners={
            "TLS": "SSL",
            "MUTUAL": "SSL",
            "BOTH": "SASL_SSL",
            "CLEAR": "SASL_PLAINTEXT",
        },
        scram_users={"ada": SECRET},
        properties=properties,
    )
    broker.start()
    yield SafeBroker(broker, folder)
    broker.kill()


def _write_and_read(settings: ClientSettings, topic: str) -> None:
    writer = KafkaLogWriter(settings, topic, "test")
    assert writer.append([("k", b"one"), ("k", b"two")]) == 2
    writer.close()
    consumer = open_client(KafkaConsumer, settings, "test", auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(topic, 0)])
        found: list[bytes] = []
        end = time.monotonic() + TIMEOUT_SECONDS
        while len(found) < 2 and time.monotonic() < end:
            for messages in consumer.poll(timeout_ms=500).values():
                found += [message.value for message in messages]
    finally:
        consumer.close()
    assert found == [b"one", b"two"]


@pytest.mark.services
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    ("listener", "protocol"), [("BOTH", "SASL_SSL"), ("CLEAR", "SASL_PLAINTEXT")]
)
def test_sasl_writes_and_reads(
    safe_broker: SafeBroker, listener: str, protocol: str, mechanism: str
) -> None:
    """Each mechanism lets us in, encrypted or not, and what is written can be read."""
    settings = safe_broker.settings(
        listener, kafka_security_protocol=protocol, kafka_sasl_mechanism=mechanism
    )
    _write_and_read(settings, f"{listener}-{mechanism}")


@pytest.mark.services
def test_tls_writes_and_reads(safe_broker: SafeBroker) -> None:
    """TLS alone works, with the name in the certificate checked."""
    settings = safe_broker.settings("TLS", kafka_security_protocol="SSL")
    assert connection_options(settings, "test")["ssl_context"].check_hostname
    _write_and_read(settings, "tls")


@pytest.mark.services
def test_our_certificate_is_shown(safe_broker: SafeBroker) -> None:
    """A broker that asks for a certificate gets ours; without one it hangs up, which is told."""
    pair = {
        "kafka_ssl_cert_file": str(safe_broker.folder / "client.pem"),
        "kafka_ssl_key_file": str(safe_broker.folder / "client.key"),
    }
    settings = safe_broker.settings("MUTUAL", kafka_security_protocol="SSL", **pair)
    _write_and_read(settings, "mutual")
    without = safe_broker.settings(
        "MUTUAL", kafka_security_protocol="SSL", kafka_timeout_seconds=1.0
    )
    with pytest.raises(LogError, match="did not answer within 1 seconds"):
        KafkaLogWriter(without, "mutual", "test")


def _refused(settings: ClientSettings) -> str:
    """The one line of the error that connecting ends with, in time and without a secret."""
    begun = time.monotonic()
    with pytest.raises(LogError) as caught:
        KafkaLogWriter(settings, "refused", "test")
    assert time.monotonic() - begun < TIMEOUT_SECONDS + 5
    text = str(caught.value)
    assert "\n" not in text
    for secret in (SECRET, WRONG):
        assert secret not in text + repr(caught.value) + repr(settings)
    return text


@pytest.mark.services
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password_is_told(safe_broker: SafeBroker, mechanism: str) -> None:
    """A wrong password ends the attempt with the user's name and the settings to look at."""
    settings = safe_broker.settings(
        "CLEAR",
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism=mechanism,
        kafka_sasl_password=WRONG,
        kafka_timeout_seconds=3.0,
    )
    text = _refused(settings)
    assert "'ada'" in text
    assert "password" in text.lower()


@pytest.mark.services
def test_a_wrong_password_under_tls_is_told(safe_broker: SafeBroker) -> None:
    """The broker may hang up before its refusal is read; then too the password is thought of."""
    settings = safe_broker.settings(
        "BOTH",
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_password=WRONG,
        kafka_timeout_seconds=3.0,
    )
    text = _refused(settings)
    assert "'ada'" in text
    assert "password" in text.lower()


@pytest.mark.services
def test_a_stranger_is_not_trusted(safe_broker: SafeBroker) -> None:
    """A certificate that somebody else has signed is refused at once, and the setting named."""
    stranger = str(safe_broker.folder / "stranger.pem")
    settings = safe_broker.settings(
        "TLS", kafka_security_protocol="SSL", kafka_ssl_ca_file=stranger
    )
    assert "HEADWATER_KAFKA_SSL_CA_FILE" in _refused(settings)


@pytest.mark.services
def test_a_wrong_protocol_is_told(safe_broker: SafeBroker) -> None:
    """A broker that hangs up because it speaks another protocol makes us name the setting."""
    settings = safe_broker.settings("TLS", kafka_timeout_seconds=1.0)
    assert "HEADWATER_KAFKA_SECURITY_PROTOCOL=PLAINTEXT" in _refused(settings)


def test_nobody_there_is_told(tmp_path: Path) -> None:
    """Without a broker the attempt ends after the time of the setting, with the address."""
    (port,) = free_ports(1)
    settings = ClientSettings.for_repo(
        tmp_path, log_url=f"kafka://127.0.0.1:{port}", kafka_timeout_seconds=0.5
    )
    text = _refused(settings)
    assert f"127.0.0.1:{port} did not answer within 0.5 seconds" in text


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two certificates and their keys; for looking at only."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("ca", "stranger"):
        _certificate_of_its_own(folder, name)
    (folder / "text.pem").write_text("this is no certificate\n")
    return folder


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"ca_file": "nowhere.pem"}, "KAFKA_SSL_CA_FILE"),
        ({"ca_file": "text.pem"}, "KAFKA_SSL_CA_FILE"),
        ({"cert_file": "nowhere.pem"}, "KAFKA_SSL_CERT_FILE"),
        ({"cert_file": "ca.pem", "key_file": "nowhere.key"}, "KAFKA_SSL_KEY_FILE"),
        ({"cert_file": "ca.pem", "key_file": "stranger.key"}, "KAFKA_SSL_CERT_FILE"),
        ({"key_file": "ca.key"}, "KAFKA_SSL_CERT_FILE"),
    ],
)
def test_wrong_files_are_named(certificates: Path, given: dict[str, str], named: str) -> None:
    """A file that is missing, or not what it should be, is found before any connection is tried."""
    files = {f"kafka_ssl_{name}": str(certificates / file) for name, file in given.items()}
    settings = ClientSettings.for_repo(
        certificates, log_url="kafka://127.0.0.1:9", kafka_security_protocol="SSL", **files
    )
    with pytest.raises(SettingsError, match=f"HEADWATER_{named}"):
        connection_options(settings, "test")


@pytest.mark.parametrize("absent", ["username", "password"])
def test_sasl_needs_a_user(
    tmp_path: Path, absent: str, new_settings: Callable[..., ClientSettings]
) -> None:
    """SASL without a name or a password is an error that names the variable."""
    given = {"kafka_sasl_username": "ada", "kafka_sasl_password": SECRET}
    del given[f"kafka_sasl_{absent}"]
    settings = new_settings(kafka_security_protocol="SASL_PLAINTEXT", **given)
    with pytest.raises(SettingsError, match=f"HEADWATER_KAFKA_SASL_{absent.upper()}") as caught:
        connection_options(settings, "test")
    assert SECRET not in str(caught.value)


@pytest.fixture
def new_settings(tmp_path: Path) -> Callable[..., ClientSettings]:
    """Settings with a Kafka that is not asked."""

    def make(**given: object) -> ClientSettings:
        return ClientSettings.for_repo(tmp_path, log_url="kafka://127.0.0.1:9", **given)

    return make


def test_files_are_not_kafka(tmp_path: Path) -> None:
    """Options for a log of files are a mistake of the caller."""
    with pytest.raises(ValueError, match="not Kafka"):
        connection_options(ClientSettings.for_repo(tmp_path), "test")
