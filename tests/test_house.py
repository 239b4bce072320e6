"""The house rules that ruff and mypy cannot check: who imports whom, sizes, names, traces."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from pydantic import SecretStr

from contracts.processes import PROCESSES
from contracts.settings import PREFIX
from tests.order import LONGEST

ROOT = Path(__file__).resolve().parent.parent
RELATIVE = ROOT / "dataflows" / "river_onnx"  # the one package that imports its own by a dot
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# Where a statement has statements within.
STATEMENTS_WITHIN = ("body", "orelse", "handlers", "finalbody", "cases")

# package -> packages of ours that it may import
MAY_IMPORT = {
    "contracts": {"contracts"},
    "dataflows": {"contracts", "dataflows"},
    "scorer": {"contracts", "scorer"},
    "cli": {"contracts", "dataflows", "scorer", "cli"},
}
# The scorer starts in a fraction of a second because these stay out.
NOT_IN_SCORER = {"bytewax", "feast", "numba", "pandas", "river"}
FORBIDDEN_NAMES = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
# Put together here, so that this file does not trip over itself.
REGISTRY_HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "maven" + ".org",
    "maven.apache" + ".org",
    "npmjs" + ".org",
    "crates" + ".io",
    "golang" + ".org",
    "deb.debian" + ".org",
]
MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(?:root|work|home/\w+|Users/\w+|tmp/\w+|opt/wheels)/")


@cache
def _files() -> tuple[Path, ...]:
    """All files that are in Git or would be with the next `git add`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


@cache
def _modules() -> tuple[Path, ...]:
    """All Python modules that people write."""
    return tuple(
        path
        for path in _files()
        if path.suffix == ".py" and not path.stem.endswith(("_pb2", "_pb2_grpc"))
    )


@cache
def _statements(path: Path) -> tuple[ast.AST, ...]:
    """Imports, and functions with their first statement, at whatever depth they stand."""
    found: list[ast.AST] = []
    # None of them hides in an expression, and most of a tree is expressions.
    left: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), filename=str(path))]
    while left:
        node = left.pop()
        for name in STATEMENTS_WITHIN:
            left += getattr(node, name, ())
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # Whole trees of a thousand modules keep the garbage collector busy.
            del node.body[1:]
            found.append(node)
    return tuple(found)


def _place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level package of each import, at whatever depth it stands."""
    for node in _statements(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 1 and RELATIVE in path.parents:
                continue  # within the package: it may be lifted out under another name
            assert node.level == 0, f"relative import in {_place(path, node.lineno)}"
            yield node.lineno, (node.module or "").partition(".")[0]


def _distribution(requirement: str) -> str:
    """The normal form of the name that a requirement begins with."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def _modules_of(package: str) -> list[Path]:
    return [path for path in _modules() if path.relative_to(ROOT).parts[0] == package]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_import_rule(package: str) -> None:
    """Imports go one way: contracts, then dataflows and scorer (apart), then cli."""
    modules = _modules_of(package)
    assert modules
    forbidden = MAY_IMPORT.keys() - MAY_IMPORT[package] | {"tests", "benchmarks"}
    broken = [
        f"{_place(path, line)} imports {imported}"
        for path in modules
        for line, imported in _imports(path)
        if imported in forbidden
    ]
    assert not broken


def test_the_scorer_stays_light() -> None:
    """The scorer imports nothing that takes seconds to load."""
    broken = [
        f"{_place(path, line)} imports {imported}"
        for path in _modules_of("scorer")
        for line, imported in _imports(path)
        if imported in NOT_IN_SCORER
    ]
    assert not broken


def test_what_is_imported_is_declared() -> None:
    """Nothing that we import comes along only because somebody else needs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    declared = {_distribution(requirement) for requirement in wanted}
    providers = packages_distributions()
    known = MAY_IMPORT.keys() | sys.stdlib_module_names
    broken = {
        f"{_place(path, line)} imports {imported}"
        for package in MAY_IMPORT
        for path in _modules_of(package)
        for line, imported in _imports(path)
        if imported not in known
        and declared.isdisjoint(_distribution(name) for name in providers.get(imported, []))
    }
    assert not broken


def test_modules_are_short() -> None:
    """A module that grows past the limit is split by what its parts do."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _modules()}
    assert not [
        f"{path.relative_to(ROOT)} has {lines} lines, at most {MODULE_LINES_MAX}"
        for path, lines in lengths.items()
        if lines > MODULE_LINES_MAX
    ]


def test_functions_are_short() -> None:
    """A function fits on one screen."""
    assert not [
        f"{_place(path, node.lineno)} {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
        for path in _modules()
        for node in _statements(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def test_names_say_what_is_inside() -> None:
    """No drawer for odds and ends: each module and folder is named after its noun."""
    assert not [
        str(path.relative_to(ROOT))
        for path in _modules()
        for part in path.relative_to(ROOT).with_suffix("").parts
        if FORBIDDEN_NAMES & set(part.lower().split("_"))
    ]


def test_every_test_says_what_it_proves() -> None:
    """A test's docstring is one sentence about the behaviour."""
    assert not [
        f"{_place(path, node.lineno)} {node.name}"
        for path in _modules_of("tests")
        for node in _statements(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]


def test_the_longest_test_files_are_there() -> None:
    """What is to come first has not been renamed meanwhile."""
    assert [name for name in LONGEST if not (ROOT / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)


def test_no_trace_of_a_machine() -> None:
    """No tracked text names a developer's folder or the address of a package registry."""
    traces = []
    for path in _files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        traces += [f"{path.relative_to(ROOT)}: {host}" for host in REGISTRY_HOSTS if host in text]
        traces += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in MACHINE_PATH.finditer(text)]
    assert not traces


def test_the_lock_has_versions_and_hashes() -> None:
    """Every locked package has one exact version and at least one hash, and no address."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text)
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert len(packages) > 50
    names = [re.match(r"([a-z0-9.-]+)==\S+ ", entry) for entry in packages]
    assert all(names)
    assert len({name[1] for name in names if name}) == len(packages)
    assert all("--hash=sha256:" in entry for entry in packages)
    assert "://" not in text


def test_env_example_lists_exactly_the_settings() -> None:
    """.env.example shows each setting once, with its default where that is a plain value."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = dict(re.findall(rf"^#?({PREFIX}\w+)=(.*)$", text, flags=re.MULTILINE))
    fields = {
        f"{PREFIX}{name.upper()}": field.default
        for process in PROCESSES
        for name, field in process.model_fields.items()
    }
    assert shown.keys() == fields.keys()
    assert len(re.findall(rf"^#?{PREFIX}\w+=", text, flags=re.MULTILINE)) == len(fields)
    for name, default in fields.items():
        in_the_repository = isinstance(default, Path) or "://" in str(default)
        plain = default.get_secret_value() if isinstance(default, SecretStr) else str(default)
        expected = f"/data/{Path(plain).name}" if in_the_repository else plain
        assert shown[name].endswith(expected), name
