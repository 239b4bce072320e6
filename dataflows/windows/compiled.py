"""How the inner loop is compiled, and where what was compiled is kept.

numba keeps compiled code beside a module until that module changes. It does not notice that another
module changed whose compiled code is called, or whose types are used (then it even fails to read
what it kept). So all that this package compiles is kept in a folder of its own for each state of
the package's sources.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import cgutils, types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

_PACKAGE = Path(__file__).resolve().parent


def compiled(function: Function) -> Function:
    """A function compiled when it is called first, or loaded if it was compiled before.

    Division is numpy's: by zero it gives infinity or NaN and no error.
    """
    return _kept(function, numba.njit(cache=True, error_model="numpy"))


def inlined(function: Function) -> Function:
    """As ``compiled``, put into whatever calls it.

    A call hands over arrays as seven words each, and often counts references to them: the inner
    loop is a third slower if LLVM decides by itself what to inline.
    """
    return _kept(function, numba.njit(cache=True, error_model="numpy", forceinline=True))


def _fetch(typing_context: Any, array: Any, place: Any) -> Any:
    """The types and the code of ``prefetch``, as numba asks for them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lay, at = arguments
        data = context.make_array(signature.args[0])(context, builder, lay).data
        kinds: Any = cgutils
        ir = kinds.ir
        number = ir.IntType(32)
        takes = [kinds.voidptr_t, number, number, number]
        function = kinds.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), takes), "llvm.prefetch.p0i8"
        )
        pointer = builder.bitcast(builder.gep(data, [at]), kinds.voidptr_t)
        # To be written to as well, kept in all caches, data.
        builder.call(function, [pointer, number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


_intrinsic: Any = intrinsic
# Have the processor fetch what stands at this place of a flat array, and not wait for it.
prefetch: Callable[[Any, int], None] = _intrinsic(_fetch)


def _kept(function: Function, compiler: Callable[[Any], Any]) -> Function:
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(_folder(before))
    try:
        return cast("Function", compiler(function))
    finally:
        config.CACHE_DIR = before


def _folder(chosen: str) -> Path:
    """Where to keep compiled code: where numba is told to, else here, else in the user's cache."""
    if chosen:
        return Path(chosen) / _STATE
    if os.access(_PACKAGE, os.W_OK):
        return _PACKAGE / "__pycache__" / _STATE
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater" / _STATE


def _state_of_sources() -> str:
    digest = sha256()
    for path in sorted(_PACKAGE.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"windows-{digest.hexdigest()[:16]}"


_STATE = _state_of_sources()
