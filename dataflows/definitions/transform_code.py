"""A function as text that changes when what it does changes, and not when it moves in its file."""

from __future__ import annotations

import ast
import dis
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME")
_CONTAINERS = (list, tuple, set, frozenset, dict)
_OF_THEIR_OWN = (FunctionType, MethodType, partial, type, *_CONTAINERS)


def code_of(function: Callable[..., Any]) -> str:
    """The code of a function and of all that it uses from its own module.

    Comments, white space, decorators and docstrings make no difference. Libraries are named, not
    looked into: a new version of one is not seen.
    """
    return _described(function, _source)


def byte_code_of(function: Callable[..., Any]) -> str:
    """As ``code_of``, without the function's file, so of one that was stored and loaded too.

    Another version of Python has another byte code.
    """
    return _described(function, _byte_code)


def _described(function: Any, code_text: Callable[[CodeType], str]) -> str:
    found: list[str] = []
    todo: list[Any] = [function]
    seen: list[Any] = []
    while todo:
        one = todo.pop(0)
        if any(one is other for other in seen):
            continue
        seen.append(one)
        if isinstance(one, FunctionType):
            found.append(code_text(one.__code__))
            found.append(_text((one.__defaults__, one.__kwdefaults__)))
            uses = _used(one)
        elif isinstance(one, partial):
            found.append(_text((one.args, one.keywords)))
            uses = {"func": one.func}
        elif isinstance(one, MethodType):
            uses = {"method": one.__func__, "of": one.__self__}
        elif isinstance(one, _CONTAINERS):
            uses = _members(one)
        elif isinstance(one, type):
            uses = {name: value for name, value in vars(one).items() if not _is_dunder(name)}
        else:
            uses = {**getattr(one, "__dict__", {}), "class": type(one)}
        for name in sorted(uses):
            value = uses[name]
            if _is_ours(value, function):
                found.append(name)
                todo.append(value)
            else:
                found.append(f"{name} = {_text(value)}")
    return "\n".join(found)


def _members(container: Any) -> dict[str, Any]:
    """What a list, tuple, set or dict has, each with a name that is the same in each process."""
    if isinstance(container, dict):
        return {_text(key): value for key, value in container.items()}
    if isinstance(container, set | frozenset):
        return {_text(value): value for value in container}
    return {f"{place:08d}": value for place, value in enumerate(container)}


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name != "__call__"


def _is_ours(value: Any, function: Any) -> bool:
    """Whether a value is code from the module of ``function``, or has some in it."""
    if isinstance(value, partial | MethodType):
        return True
    if isinstance(value, _CONTAINERS):
        members = value.values() if isinstance(value, dict) else value
        # Of plain values one of each type is enough to look at; there may be a million.
        looked_at = {id(m) if isinstance(m, _OF_THEIR_OWN) else type(m): m for m in members}
        return any(_is_ours(member, function) for member in looked_at.values())
    if isinstance(value, FunctionType):
        return value.__code__.co_filename == _file(function)
    kind = value if isinstance(value, type) else type(value)
    return any(
        isinstance(one, FunctionType) and one.__code__.co_filename == _file(function)
        for one in vars(kind).values()
    )


def _file(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        function = vars(type(function)).get("__call__")
    return function.__code__.co_filename if isinstance(function, FunctionType) else ""


def _used(function: FunctionType) -> dict[str, Any]:
    """Globals of its module and outer variables that a function reads, in inner functions too."""
    names = set(globals_read(function.__code__))
    used = {name: value for name, value in function.__globals__.items() if name in names}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            used[name] = cell.cell_contents
        except ValueError:
            # A variable that is given a value only later.
            continue
    return used


def globals_read(code: CodeType) -> Iterator[str]:
    """Names of globals that some code reads, in inner functions too; some more than once."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in _LOADS:
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from globals_read(constant)


def _source(code: CodeType) -> str:
    """The function as Python writes it, or its byte code if its file does not have it."""
    return source_of(code) or _byte_code(code)


def source_of(code: CodeType) -> str:
    """The function as Python writes it, empty if its file does not have it."""
    try:
        tree = ast.parse(Path(code.co_filename).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        tree = ast.Module([], [])
    found = [
        ast.unparse(_bare(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        and getattr(node, "name", "<lambda>") == code.co_name
        and _first_line(node) == code.co_firstlineno
    ]
    return "\n".join(found)


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])


def _bare(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda:
    """Without decorators, which say what the view is, and without docstring."""
    if not isinstance(node, ast.Lambda):
        node.decorator_list = []
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return node


def _byte_code(code: CodeType) -> str:
    constants = [
        _byte_code(one) if isinstance(one, CodeType) else _text(one) for one in code.co_consts
    ]
    return repr((code.co_code.hex(), constants, code.co_names, code.co_varnames))


def _text(value: Any) -> str:
    """A value, the same in each process: without addresses, sets in order."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({sorted(_text(one) for one in value)})"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({[_text(one) for one in value]})"
    if isinstance(value, dict):
        return f"dict({[(_text(key), _text(one)) for key, one in value.items()]})"
    if isinstance(value, np.ndarray):
        return f"array({value.dtype}, {value.shape}, {_text(value.tolist())})"
    if hasattr(value, "to_csv"):
        # A frame or series of pandas, of which ``repr`` leaves most out.
        return f"{type(value).__name__}({value.to_csv()})"
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, type | FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    text = repr(value)
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}" if _ADDRESS.search(text) else text
