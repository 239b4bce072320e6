"""Notes what goes wrong inside a flow before Bytewax hears of it.

In a cluster Bytewax forgets it: an error in one worker ends its thread, and the others wait for it
for ever, or the process is aborted. Without one it prints more than anybody wants to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from bytewax.dataflow import Dataflow

Note = Callable[[BaseException], None]

_OF_SOURCE = ("list_parts", "build_part")
_OF_SINK = ("list_parts", "build_part", "part_fn")
_OF_PART = ("next_batch", "next_awake", "write_batch", "snapshot", "close")
_OF_LOGIC = ("on_batch", "on_notify", "on_eof", "notify_at", "snapshot")


def guard(flow: Dataflow, note: Note, begin: Callable[[], None]) -> None:
    """Have ``note`` called, in the worker's thread, with whatever the flow's own code raises.

    ``begin`` is called when Bytewax asks for the first time for anything.
    """
    for step in _steps(flow):
        if hasattr(step, "source"):
            _put(step.source, "list_parts", _after(begin, step.source.list_parts))
            _guard_methods(step.source, _OF_SOURCE, note)
            _guard_made(step.source, "build_part", _OF_PART, note)
        elif hasattr(step, "sink"):
            _guard_methods(step.sink, _OF_SINK, note)
            _guard_made(step.sink, "build_part", _OF_PART, note)
        elif hasattr(step, "builder"):
            made = _guarded(step.builder, note)
            _put(step, "builder", _making_guarded(made, _OF_LOGIC, note))
        elif hasattr(step, "mapper"):
            _put(step, "mapper", _guarded(_at_once(step.mapper), note))


def _steps(parent: Any) -> Iterable[Any]:
    """The operators that Bytewax itself runs; all others are made of these."""
    for step in parent.substeps:
        if getattr(step, "core", False):
            yield step
        else:
            yield from _steps(step)


def _guarded(function: Callable[..., Any], note: Note) -> Callable[..., Any]:
    @wraps(function)
    def call(*given: Any) -> Any:
        try:
            return function(*given)
        except StopIteration:
            raise
        except BaseException as error:
            note(error)
            raise

    return call


def _at_once(mapper: Callable[..., Iterable[Any]]) -> Callable[..., list[Any]]:
    """Bytewax's own mappers call ours while what they return is looked at, which is later."""

    def call(*given: Any) -> list[Any]:
        return list(mapper(*given))

    return call


def _after(first: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        first()
        return function(*given)

    return call


def _making_guarded(
    make: Callable[..., Any], names: tuple[str, ...], note: Note
) -> Callable[..., Any]:
    def made(*given: Any) -> Any:
        thing = make(*given)
        _guard_methods(thing, names, note)
        return thing

    return made


def _guard_made(thing: Any, maker: str, names: tuple[str, ...], note: Note) -> None:
    if hasattr(thing, maker):
        _put(thing, maker, _making_guarded(getattr(thing, maker), names, note))


def _guard_methods(thing: Any, names: tuple[str, ...], note: Note) -> None:
    for name in names:
        if hasattr(thing, name):
            _put(thing, name, _guarded(getattr(thing, name), note))


def _put(thing: Any, name: str, value: Any) -> None:
    # Steps are frozen dataclasses, and nothing but Bytewax has them yet.
    object.__setattr__(thing, name, value)
