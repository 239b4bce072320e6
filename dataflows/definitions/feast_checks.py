"""Keeps what typeguard makes of Feast, so that it is made once and not at every start.

Feast has the arguments of its own classes checked: while it is imported, typeguard parses a module
anew for each method in it, puts the checks in and compiles all of it. That is three quarters of the
time that Feast's import takes. The checks stay exactly what they are: the code that typeguard made
is kept beside our compiled kernels, and put in place of the methods' own.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from importlib import import_module, metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from inspect import isclass, isfunction
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

_DIGEST_BYTES = 32
_PARTS = ("fget", "fset", "fdel")

Decorator = Callable[..., Any]


def keep_feast_checks() -> None:
    """Have Feast, if it is not imported yet, take its checks from where they are kept."""
    if "feast" not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Is there until Feast is imported; whoever else uses typeguard has it as it is."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Feast's own, with something done around its import."""
        if fullname != "feast":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = partial(_import_with_kept_checks, loader.exec_module)
        return spec


def _import_with_kept_checks(exec_module: Callable[[ModuleType], None], module: ModuleType) -> None:
    try:
        typeguard: Any = import_module("typeguard")
    except ImportError:  # another Feast, which has nothing checked
        exec_module(module)
        return
    typechecked = typeguard.typechecked
    version = f"{sys.version} {metadata.version('typeguard')}"
    typeguard.typechecked = partial(typechecked_once, typechecked, _folder(), version)
    try:
        exec_module(module)
    finally:
        typeguard.typechecked = typechecked


def typechecked_once(
    typechecked: Decorator,
    folder: Path,
    version: str,
    target: Any = None,
    **options: Any,
) -> Any:
    """Do as the decorator ``typechecked`` does, or as it did the last time.

    Args:
        typechecked: typeguard's.
        folder: where to keep code; made if it is not there. Where nothing can be written nothing
            is kept.
        version: of all that makes code besides the source.
        target: the class; whatever else typeguard takes is left to it.
        options: left to it as well.
    """
    path = _path(folder, version, target) if isclass(target) and not options else None
    if path is None:
        return typechecked(target, **options)
    own = dict(_functions(target))
    kept = _read(path)
    if kept is None or not kept.keys() <= own.keys():
        typechecked(target)
        made = {
            name: function.__code__
            for name, function in _functions(target)
            if function is not own.get(name)
        }
        # Code that looks at other variables around it needs more than to be put in place.
        if all(code.co_freevars == own[name].__code__.co_freevars for name, code in made.items()):
            _write(path, made)
    else:
        for name, code in kept.items():
            own[name].__code__ = code
    return target


def _functions(target: type) -> Iterator[tuple[str, FunctionType]]:
    """The functions among a class's own attributes, under names that tell them apart."""
    for name, attribute in vars(target).items():
        if isinstance(attribute, property):
            parts = [(f"{name}.{part}", getattr(attribute, part)) for part in _PARTS]
        else:
            parts = [(name, getattr(attribute, "__func__", attribute))]
        yield from ((part, function) for part, function in parts if isfunction(function))


def _folder() -> Path:
    """Where compiled kernels are kept too: where numba is told to, else here, else in the cache."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    package = Path(__file__).resolve().parent
    if chosen:
        return Path(chosen) / "feast"
    if os.access(package, os.W_OK):
        return package / "__pycache__" / "feast"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater" / "feast"


def _path(folder: Path, version: str, target: type) -> Path | None:
    """The file of a class as its source is now; None if there is no source."""
    file = getattr(sys.modules.get(target.__module__), "__file__", None)
    try:
        source = Path(str(file)).read_bytes()
    except OSError:
        return None
    name = f"{target.__module__}.{target.__qualname__}"
    digest = sha256(source)
    for part in (name.encode(), str(file).encode(), version.encode(), importlib.util.MAGIC_NUMBER):
        digest.update(b"\0" + part)
    return folder / f"{name}-{digest.hexdigest()[:32]}.code"


def _read(path: Path) -> dict[str, CodeType] | None:
    """Code by the name of its function; None if nothing whole is there."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if digest != sha256(code).digest():
        return None
    kept: dict[str, CodeType] = marshal.loads(code)  # ours, as .pyc are Python's
    return kept


def _write(path: Path, made: dict[str, CodeType]) -> None:
    """Leave code for later processes; renamed when whole, as others may write the same."""
    code = marshal.dumps(made)
    part = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(sha256(code).digest() + code)
        part.replace(path)
