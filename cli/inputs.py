"""``key=value`` words of a command line as typed values.

``key=value`` is text whose type is decided by whoever knows the input; ``key:=JSON`` says it by
itself. ``key=null`` is null for every type, the text "null" is ``key:='"null"'``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import typer

Scalar = float | int | str | bool | None

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(nan|inf)", re.I)
_BOOLEANS = {"true": True, "false": False}


class Text(str):
    """A value as it was typed; what it means depends on the type of the input."""

    __slots__ = ()


def parse_inputs(words: Sequence[str]) -> dict[str, Scalar]:
    """Input name -> ``Text`` for ``key=value``, the JSON value for ``key:=JSON``.

    Raises:
        typer.BadParameter: a word is neither, names no key or one twice, or its JSON is broken, an
            object or a list.
    """
    found: dict[str, Scalar] = {}
    for word in words:
        name, equals, value = word.partition("=")
        is_json = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name:
            raise typer.BadParameter(f"{word!r} is not key=value (or key:=JSON)")
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice")
        found[name] = _json_scalar(name, value) if is_json else Text(value)
    return found


def as_type(value: Scalar, dtype: str | None) -> Scalar:
    """``Text`` as a value of ``dtype``, or the nearest guess if that is None.

    Text that does not read as that type stays text: the one that asked for the type refuses it,
    and in its own words. Other values are returned as they are.
    """
    if not isinstance(value, Text):
        return value
    text = str(value)
    if text == "null":
        return None
    if dtype in ("bool", None) and text in _BOOLEANS:
        return _BOOLEANS[text]
    if dtype in ("int64", "float64", None) and _INTEGER.fullmatch(text) and fits_64_bits(int(text)):
        return int(text)
    if dtype in ("float64", None) and _NUMBER.fullmatch(text):
        return float(text)
    return text


def fits_64_bits(value: int) -> bool:
    """Whether it is a signed 64 bit integer."""
    return -(2**63) <= value < 2**63


def _json_scalar(name: str, text: str) -> Scalar:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{name}:={text}: not JSON: {error}") from error
    if isinstance(value, dict | list):
        raise typer.BadParameter(f"{name}:={text}: give a number, text, true, false or null")
    if isinstance(value, int) and not fits_64_bits(value):
        raise typer.BadParameter(f"{name}:={text}: does not fit 64 bits")
    scalar: Scalar = value
    return scalar
