"""What makes brokers start with less work: classes that are read already, a folder made before.

A suite starts some dozens of them, and each start is seconds of CPU time.
"""

from __future__ import annotations

import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from functools import cache
from pathlib import Path
from zlib import crc32

from tests.services.provision import java_program, kafka_jars
from tests.services.server import ServerError

FOR_LONG = ("-Xmx512m", "-XX:+UseSerialGC")
# Starts with a third less of CPU time, and then runs somewhat slower.
FOR_A_TEST = (*FOR_LONG, "-XX:TieredStopAtLevel=1")
FORMAT_SECONDS_MAX = 60
# Java ignores an archive that was made by another Java or of other jars; it need not say so.
_QUIETLY = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off")
_META = "meta.properties"


def class_archive() -> Path:
    """Where the classes of a broker lie as Java has them in memory, beside the jars.

    Java silently takes none that was made of jars in another folder, of which this one may be a
    copy: so the folder is in the name.
    """
    jars = kafka_jars()
    return jars.parent / f"classes-{crc32(bytes(jars)):08x}.jsa"


def java_for_kafka(options: tuple[str, ...]) -> list[str]:
    """Java with Kafka's jars, and with the archive of classes if there is one."""
    archive = class_archive()
    shared = (f"-XX:SharedArchiveFile={archive}", *_QUIETLY) if archive.exists() else ()
    return [java_program(), *options, *shared, "-cp", f"{kafka_jars()}/*"]


def java_that_archives(options: tuple[str, ...], archive: Path) -> list[str]:
    """Java that leaves the archive of classes when the broker ends in good order."""
    keeping = (f"-XX:ArchiveClassesAtExit={archive}", *_QUIETLY)
    return [java_program(), *options, *keeping, "-cp", f"{kafka_jars()}/*"]


def format_folder(java: list[str], settings: Path, *more: str) -> None:
    """Make the data folder that the settings name with Kafka's own tool.

    Raises:
        ServerError: it cannot.
    """
    command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={_new_id()}"]
    command += ["-c", str(settings), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_SECONDS_MAX)
    if done.returncode != 0:
        raise ServerError(f"Kafka cannot make its data folder\n{done.stdout}{done.stderr}")


def lay_down_folder(data: Path) -> None:
    """A data folder as Kafka's tool makes it for node 1 of a quorum that its settings name.

    Raises:
        ServerError: the tool cannot make it.
    """
    data.mkdir(parents=True)
    for name, contents in _formatted().items():
        if name == _META:
            lines = contents.decode().splitlines()
            kept = [line for line in lines if not line.startswith("cluster.id=")]
            contents = "\n".join([*kept, f"cluster.id={_new_id()}", ""]).encode()
        (data / name).write_bytes(contents)


@cache
def _formatted() -> dict[str, bytes]:
    """The files of a new data folder, made once by Kafka's tool and kept beside the jars."""
    kept = kafka_jars().parent / "formatted"
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(dir=kept.parent) as name:
            data = Path(name) / "data"
            settings = Path(name) / "server.properties"
            lines = {
                "process.roles": "broker,controller",
                "node.id": "1",
                "controller.quorum.voters": "1@127.0.0.1:1",
                "controller.listener.names": "CONTROLLER",
                "listeners": "PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "log.dir": str(data),
            }
            text = "".join(f"{key}={value}\n" for key, value in lines.items())
            settings.write_text(text, encoding="utf-8")
            format_folder(java_for_kafka(FOR_A_TEST), settings)
            try:
                data.rename(kept)
            except OSError:
                if not kept.is_dir():  # another process was first
                    raise
    made = {file.name: file.read_bytes() for file in sorted(kept.iterdir())}
    assert _META in made
    return made


def _new_id() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
