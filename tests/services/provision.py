"""Gets what real services need: Kafka's jars through Maven, programs from the distribution."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICES = ROOT / "build" / "services"
POM = Path(__file__).with_name("pom.xml")
JAVA_VERSION_MIN = 17
# program: the package of Debian and Ubuntu that has it
PACKAGES = {
    "java": "default-jre-headless",
    "mvn": "maven",
    "redis-server": "redis-server",
}
INSTALL_SECONDS_MAX = 600.0


class MissingServiceError(Exception):
    """A service is not to be had on this machine; the message says what to install."""


def kafka_jars(seconds_max: float = INSTALL_SECONDS_MAX) -> Path:
    """The folder with the jars of a broker, got once and kept in build/services.

    Raises:
        MissingServiceError: Java or Maven is missing, or Maven cannot get the jars.
    """
    java_program()
    return maven_jars(POM, _jars_folder(), "Kafka", seconds_max)


def jars_are_there() -> bool:
    """Whether the jars of a broker were got, and there is something to run them with."""
    return _jars_folder().is_dir() and shutil.which("java") is not None


def maven_jars(
    pom: Path, jars: Path, program: str, seconds_max: float = INSTALL_SECONDS_MAX
) -> Path:
    """The folder ``jars`` with all that a pom names, got once.

    Raises:
        MissingServiceError: Maven is missing, or cannot get the jars of the program.
    """
    if not jars.is_dir():
        _copy_jars(pom, jars, program, seconds_max)
    return jars


def _jars_folder() -> Path:
    version = ElementTree.parse(POM).findtext("properties/kafka.version")
    return SERVICES / f"kafka-{version}" / "lib"


def java_program() -> str:
    """The path of a Java that runs Kafka 4.

    Raises:
        MissingServiceError: there is none, or it is too old.
    """
    wanted = f"Java {JAVA_VERSION_MIN} or newer (Debian: apt-get install {PACKAGES['java']})"
    java = shutil.which("java")
    if java is None:
        raise MissingServiceError(f"Kafka needs {wanted}, and there is no java here")
    answer = _java_says(java)
    match = re.search(r'version "(\d+)', answer)
    if match is None or int(match[1]) < JAVA_VERSION_MIN:
        found = answer.partition("\n")[0]
        raise MissingServiceError(f"Kafka needs {wanted}, and {java} is {found}")
    return java


@cache
def _java_says(java: str) -> str:
    """Of its version. Asked once: each start of a broker wants to know, and Java takes its time."""
    # Every release answers -version on stderr.
    return subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60).stderr


def _copy_jars(pom: Path, jars: Path, program: str, seconds_max: float) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingServiceError(
            f"{program}'s jars come through Maven, which is missing (Debian: apt-get install maven)"
        )
    jars.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when complete: a folder that is there has all its jars.
    with tempfile.TemporaryDirectory(dir=jars.parent) as folder:
        copied = Path(folder) / "lib"
        command = [maven, "-B", "-q", "-f", str(pom), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={copied}"]
        _run(command, f"Maven cannot get {program}'s jars", seconds_max)
        try:
            copied.rename(jars)
        except OSError:
            if not jars.is_dir():  # another process was first
                raise


def redis_program() -> str:
    """The path of redis-server.

    Raises:
        MissingServiceError: it is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise MissingServiceError(
            "redis-server is not installed (Debian: apt-get install redis-server), "
            "or run 'make services' as root"
        )
    return program


def install_programs() -> None:
    """Install what is missing from the distribution, where we are root on a machine with apt-get.

    Elsewhere nothing happens: who needs a program then says that it is missing.

    Raises:
        MissingServiceError: apt-get cannot install it.
    """
    needed = [program for program in PACKAGES if shutil.which(program) is None]
    if "mvn" in needed and _jars_folder().is_dir():
        needed.remove("mvn")
    apt_get = shutil.which("apt-get")
    if not needed or apt_get is None or os.geteuid() != 0:
        return
    packages = [PACKAGES[program] for program in needed]
    install = [apt_get, "install", "-y", "--no-install-recommends", *packages]
    failure = f"apt-get cannot install {' '.join(packages)}"
    # Nothing asks, and the package's own daemon does not take the port.
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    try:
        _run(install, failure, INSTALL_SECONDS_MAX, quiet)
    except MissingServiceError:
        # A fresh machine does not know yet which packages there are.
        _run([apt_get, "update"], "apt-get update fails", INSTALL_SECONDS_MAX, quiet)
        _run(install, failure, INSTALL_SECONDS_MAX, quiet)


def _run(
    command: list[str], failure: str, seconds_max: float, variables: dict[str, str] | None = None
) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds_max,
            env=os.environ | (variables or {}),
        )
    except subprocess.TimeoutExpired:
        raise MissingServiceError(f"{failure}: no end after {seconds_max:g} s") from None
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-10:])
        raise MissingServiceError(f"{failure}: exit {done.returncode}\n{tail}")
