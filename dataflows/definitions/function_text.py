"""A function of definitions.py as a module of its own, to be run where nothing else of it is."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final

import numpy as np

from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.transform_code import globals_read, source_of

CHARACTERS_MAX: Final = 100_000
# What Feast puts beside a function's own text when it loads it, and the scorer has too.
_NUMPY: Final = {"np": "import numpy as np", "numpy": "import numpy"}
_PACKAGES: Final = frozenset({*sys.stdlib_module_names, "numpy"})


def module_of(function: Any, where: str) -> tuple[str, str]:
    """(the function's name, a module with it) as text.

    Comments, docstring, decorators and type hints make no difference.

    Raises:
        DefinitionError: it is no plain function, or needs what stands outside of it.
    """
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        raise DefinitionError(f"{where}: its function must be a plain `def`")
    text = source_of(function.__code__)
    if not text:
        raise DefinitionError(
            f"{where}: the source of its function cannot be found; write it as a plain `def` in "
            "definitions.py, with no decorator besides Feast's"
        )
    tree = ast.parse(text)
    if not isinstance(tree.body[0], ast.FunctionDef):
        raise DefinitionError(f"{where}: its function must be a plain `def`, not async")
    name = tree.body[0].name
    _leave_out_hints(tree)
    _check_imports(tree, where)
    lines = [_NUMPY[one] for one in _outside(tree, name, function, where)]
    module = "\n".join([*lines, ast.unparse(tree), ""])
    if len(module) > CHARACTERS_MAX:
        raise DefinitionError(
            f"{where}: its function has {len(module)} characters, at most {CHARACTERS_MAX} can "
            "travel; make it smaller"
        )
    return name, module


def _leave_out_hints(tree: ast.Module) -> None:
    """Hints are worked out where the function is defined, by names that are not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None


def _check_imports(tree: ast.Module, where: str) -> None:
    for name in _imported(tree):
        if name.partition(".")[0] not in _PACKAGES:
            raise DefinitionError(
                f"{where}: its function imports {name or 'a neighbour'!r}, which the scorer does "
                "not have; use the standard library and numpy"
            )


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level if node.level else str(node.module)


def _outside(tree: ast.Module, name: str, function: FunctionType, where: str) -> list[str]:
    """Which names of numpy the function reads; raise DefinitionError for any other from outside."""
    code = compile(tree, "<function>", "exec")
    names = {one for one in globals_read(code) if one != name and not hasattr(builtins, one)}
    for one in sorted(names):
        if one not in _NUMPY or function.__globals__.get(one) is not np:
            raise DefinitionError(
                f"{where}: its function uses {one!r} from outside of it, which is not there where "
                "Feast and the scorer run it; import or define it inside the function"
            )
    return sorted(names)
