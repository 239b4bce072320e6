"""The function that a stream feature view gives to Feast, to be run on its rows before all else."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from types import FunctionType
from typing import Any, Final, get_type_hints

import numpy as np
from feast import StreamFeatureView

from contracts.plan import Topic, TransformMode, View
from dataflows.definitions.errors import DefinitionError
from dataflows.sources.columns import BadColumnError
from dataflows.sources.transform import needed_columns
from dataflows.sources.transform_columns import ListRows, kinds_of
from dataflows.sources.transform_frames import FrameRows

TransformFunction = Callable[[Any], Any]
_MODES: Final[tuple[TransformMode, ...]] = ("python", "pandas")


@dataclass(frozen=True)
class Transform:
    """A function of a batch of rows, and what it takes and gives.

    ``python``: a dict of lists, ``pandas``: a data frame; as many rows as it was given, in their
    order.
    """

    mode: TransformMode
    function: TransformFunction


def transform_of(view: StreamFeatureView, where: str) -> Transform | None:
    """The view's transformation, None without one; raise DefinitionError if it cannot be run.

    As in Feast, a ``feature_transformation`` goes before a ``udf``, and has a mode of its own.
    """
    given = view.feature_transformation
    wanted = _mode_name(view.mode if given is None else given.mode)
    for mode in _MODES:
        if wanted == mode:
            break
    else:
        raise DefinitionError(
            f"{where}: mode {wanted!r} cannot be executed; use mode='python' or mode='pandas'"
        )
    if given is None:
        return None
    if view.udf is not None and view.udf is not given.udf:
        raise DefinitionError(
            f"{where} has a udf and another feature_transformation; leave one of them out"
        )
    if getattr(given, "singleton", False):
        raise DefinitionError(
            f"{where}: singleton=True, a call for each row, cannot be executed; let the function "
            "take a dict of lists and leave singleton out"
        )
    return Transform(mode, given.udf)


def _mode_name(mode: Any) -> str:
    return str(getattr(mode, "value", mode))


def try_without_rows(transform: Transform, view: View, topic: Topic, where: str) -> str:
    """Call the function with columns that have no rows; raise DefinitionError if its result is odd.

    This finds what gives no batch of columns at all, and misspelt ones. A function need not take an
    empty batch, so one that raises, or gives nothing or just what it got, is left to the real rows.

    Returns:
        What people should know: that it raised. Empty if there is nothing.
    """
    rows = ListRows(topic) if transform.mode == "python" else FrameRows(topic)
    names = kinds_of(topic)
    nothing: dict[str, Any] = {
        n: [] if k in ("string", "int64") else np.empty(0) for n, k in names.items()
    }
    given: Any = rows.give(nothing, slice(0))
    # If it raises it is as if it had given nothing; what it was given may have changed meanwhile.
    result: Any = type(given)()
    note = ""
    try:
        result = transform.function(given)
    except Exception as error:  # noqa: BLE001 - the function may not take an empty batch
        note = (
            f"{where}: called without rows, its function raised {_told(error)}; a record at which "
            "it raises becomes a dead letter"
        )
    try:
        found = rows.take(result, 0).keys()
    except BadColumnError as error:
        raise DefinitionError(f"{where}: called without rows, {error}") from error
    missing = [name for name in needed_columns(view) if name not in found]
    if missing and found and found != names.keys():
        raise DefinitionError(
            f"{where}: its function gave no column {missing[0]!r}, only {', '.join(found)}"
        )
    return note


def make_portable(view: StreamFeatureView, directory: Path) -> None:
    """Have Feast store the view's function so that it can be read where ``directory`` is not.

    Feast pickles a ``udf`` by dill into its registry, and loads it whenever somebody reads the
    view. It leaves out a ``feature_transformation``, and pickles by name the functions and classes
    of ``definitions.py`` that the function uses, which nobody else can import. Type hints that are
    text are looked up again elsewhere, where their imports are missing.
    """
    given = view.feature_transformation
    if given is None:
        return
    function: Any = given.udf
    view.mode, view.udf, view.udf_string = given.mode, function, given.udf_string
    with suppress(Exception):
        function.__annotations__ = get_type_hints(function)
    namespace: dict[str, Any] = getattr(function, "__globals__", {})
    if Path(namespace.get("__file__") or "/").resolve().parent != directory.resolve():
        return
    for found in list(namespace.values()):
        if isinstance(found, FunctionType | type) and found.__module__ == namespace["__name__"]:
            found.__module__ = "__main__"


def check_portable(view: StreamFeatureView, directory: Path, where: str) -> None:
    """Raise DefinitionError if Feast cannot store the view, or not read it elsewhere."""
    make_portable(view, directory)
    advice = (
        "import what it needs inside the function, and let it use nothing else of definitions.py "
        "than functions and plain values"
    )
    with warnings.catch_warnings():
        # Those of dill tell less than the error that follows.
        warnings.simplefilter("ignore")
        try:
            stored = view.to_proto()
        except Exception as error:
            raise DefinitionError(
                f"{where}: its udf cannot be stored in Feast's registry ({_told(error)}); {advice}"
            ) from error
        try:
            with _elsewhere(directory):
                StreamFeatureView.from_proto(stored)
        except Exception as error:
            raise DefinitionError(
                f"{where}: its udf could not be read where this folder is not ({_told(error)}); "
                f"{advice}"
            ) from error


@contextmanager
def _elsewhere(directory: Path) -> Iterator[None]:
    """As another process sees it: the modules of this folder cannot be imported."""
    folder = str(directory.resolve())
    tops = {
        name
        for name, module in sys.modules.items()
        if name != "__main__" and folder == _folder_of(getattr(module, "__file__", None) or "")
    }
    hidden = {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in tops
    }
    path = list(sys.path)
    for name in hidden:
        del sys.modules[name]
    sys.path[:] = [place for place in path if str(Path(place).resolve()) != folder]
    try:
        with chdir(gettempdir()):
            yield
    finally:
        sys.path[:] = path
        sys.modules.update(hidden)


def _folder_of(file: str) -> str:
    """Where the file of a module stands, or the folder of a package."""
    folder, name = os.path.split(file)
    return os.path.split(folder)[0] if name == "__init__.py" else folder


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".strip(": ")
