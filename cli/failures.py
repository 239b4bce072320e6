"""The one place where an exception becomes a line for people and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import typer

FAILED = 1
USAGE = 2

_OURS = {"contracts", "dataflows", "scorer", "cli"}


class CommandError(Exception):
    """A command cannot do what it was asked; the message says why and what to do."""


def exit_code(error: BaseException) -> int:
    """2 for a command line that is wrong in itself, 1 for everything else."""
    return error.exit_code if isinstance(error, typer.TyperException) else FAILED


def explain(error: BaseException) -> str:
    """One line that says what went wrong, without a traceback.

    Exceptions of our own packages are written for people and speak for themselves. They may come
    wrapped by Bytewax, so the whole chain of causes is searched for one.
    """
    chain = list(_chain(error))
    known = next((one for one in chain if _is_ours(one)), None)
    text = _text(known or error)
    if text is None:
        last = chain[-1] if known is None else error
        text = (
            f"unexpected {type(last).__name__}: {last}; this is a defect, "
            "run `headwater --debug ...` for the traceback"
        )
    return " ".join(text.split())


def _text(error: BaseException) -> str | None:
    """The text of an error of a known family, None for any other."""
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted"
    if _is_ours(error):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return _rpc_text(error)


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return error.format_message().rstrip(".") + hint


def _rpc_text(error: BaseException) -> str | None:
    # Whoever can raise such an error has imported gRPC; nobody else should wait for it.
    grpc = sys.modules.get("grpc")
    if grpc is None or not isinstance(error, grpc.RpcError):
        return None
    return f"{error.code().name}: {error.details()}"


def _is_ours(error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] in _OURS for kind in type(error).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it. An error raised anew may stand in its own chain."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__
