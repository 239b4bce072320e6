"""Bytes of an array, eight at a time, for compiled loops: numba has no name for these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic

# So many bytes behind the last one that is asked for must be the array's own.
PADDING_BYTES = 8

_intrinsic: Any = intrinsic
_kinds: Any = cgutils
_ir = _kinds.ir


def _load(bits: int) -> Callable[[Any, Any, Any], Any]:
    def load(typing_context: Any, array: Any, place: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lay, at = arguments
            data = context.make_array(signature.args[0])(context, builder, lay).data
            kind = _ir.IntType(bits)
            pointer = builder.bitcast(builder.gep(data, [at]), kind.as_pointer())
            found = builder.load(pointer, align=1)
            return found if bits == 64 else builder.zext(found, _ir.IntType(64))

        return (types.uint64 if bits == 64 else types.int64)(array, types.int64), generate

    return load


def _count_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], _ir.Constant(_ir.IntType(1), 1))

    return types.int64(types.uint64), generate


# The byte that stands at this place of a flat array of bytes; nobody looks whether it has one.
byte_at: Callable[[Any, int], int] = _intrinsic(_load(8))
# The eight bytes from this place on, the first of them lowest.
word_at: Callable[[Any, int], Any] = _intrinsic(_load(64))
# How many of the lowest bits are zero; not all of them may be.
trailing_zeros: Callable[[Any], int] = _intrinsic(_count_zeros)
