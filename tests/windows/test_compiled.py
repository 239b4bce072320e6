"""Compiled code that calls compiled code of another module must change whenever that one does."""

from __future__ import annotations

import ast
from hashlib import sha256
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "dataflows" / "windows"
COMPILED = sorted(path for path in FOLDER.glob("*.py") if "numba.njit" in path.read_text())


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_a_compiled_module_says_what_it_was_built_on(path: Path) -> None:
    """Numba keeps what it compiled until the module's own text changes, so that text names others.

    When this fails: put the lines that it wants into the module, callees first.
    """
    compiled = {other.stem: other for other in COMPILED}
    wanted = tuple(
        f"{name} {sha256(compiled[name].read_bytes()).hexdigest()[:16]}"
        for name in sorted(_imported(path) & set(compiled))
    )
    assert _built_on(path) == wanted


def _imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {
        module.removeprefix("dataflows.windows.")
        for module in modules
        if module is not None and module.startswith("dataflows.windows.")
    }


def _built_on(path: Path) -> tuple[str, ...]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "BUILT_ON":
            return tuple(ast.literal_eval(node.value))
    return ()
