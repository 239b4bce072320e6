"""Feast's checks of arguments that are kept from one start to the next."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typeguard

import dataflows.definitions
from dataflows.definitions.feast_checks import typechecked_once

_FIRST = dataflows.definitions  # as in every process: before Feast

SOURCE = '''
class Shelf:
    """Has a function of every kind."""

    def __init__(self, books: int) -> None:
        super().__init__()
        self.books = books

    @classmethod
    def of(cls, titles: list[str]) -> "Shelf":
        return cls(len(titles))

    @staticmethod
    def fits(books: int) -> bool:
        return books < 10

    @property
    def label(self) -> str:
        return f"{self.books}"

    @label.setter
    def label(self, text: str) -> None:
        self.books = int(text)
'''
WRONG: dict[str, Callable[[Any], object]] = {
    "__init__": lambda shelf: type(shelf)("one"),
    "classmethod": lambda shelf: shelf.of([1]),
    "staticmethod": lambda shelf: shelf.fits("one"),
    "property": lambda shelf: setattr(shelf, "label", 1),
}


@pytest.fixture
def module_name(tmp_path: Path) -> Iterator[str]:
    """The name of a module with ``SOURCE``, to be imported as often as one likes."""
    (tmp_path / "shelves.py").write_text(SOURCE)
    yield "shelves"
    sys.modules.pop("shelves", None)


def shelf_class(file: Path, name: str) -> Any:
    """The class from a file, as a process that has just started has it."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(file.read_text(), file, "exec"), vars(module))  # no .pyc: its time is too coarse
    return vars(module)["Shelf"]


def must_not_be_asked(target: Any, **options: Any) -> Any:
    """Stands where typeguard is not needed any more."""
    raise AssertionError((target, options))


def functions(one: type) -> dict[str, Any]:
    """The functions of a class, properties' too."""
    found = {}
    for name, value in vars(one).items():
        for part in ("fget", "fset", "fdel", "__func__", ""):
            function = getattr(value, part, None) if part else value
            if inspect.isfunction(function):
                found[f"{name}.{part}"] = function
    return found


@pytest.mark.parametrize("kind", WRONG)
def test_what_was_kept_checks_as_typeguard_does(
    kind: str, module_name: str, tmp_path: Path
) -> None:
    """The second time typeguard is not asked, and the class has the code that it made."""
    file, kept = tmp_path / "shelves.py", tmp_path / "kept"
    made = typechecked_once(typeguard.typechecked, kept, "1", shelf_class(file, module_name))
    taken = typechecked_once(must_not_be_asked, kept, "1", shelf_class(file, module_name))
    plain = functions(shelf_class(file, module_name))
    for name, function in functions(made).items():
        assert functions(taken)[name].__code__ == function.__code__
        assert plain[name].__code__ != function.__code__
    assert taken.of(["a", "b"]).label == "2"
    with pytest.raises(typeguard.TypeCheckError):
        WRONG[kind](taken(1))


@pytest.mark.parametrize("changed", ["source", "version", "half a file"])
def test_what_does_not_fit_any_more_is_made_anew(
    changed: str, module_name: str, tmp_path: Path
) -> None:
    """Another source, another version of what makes code, a torn file: typeguard is asked again."""
    file, kept = tmp_path / "shelves.py", tmp_path / "kept"
    typechecked_once(typeguard.typechecked, kept, "1", shelf_class(file, module_name))
    if changed == "source":
        file.write_text(SOURCE.replace("books: int) -> bool", "books: float) -> bool"))
    if changed == "half a file":
        (path,) = kept.iterdir()
        path.write_bytes(path.read_bytes()[:-100])
    version = "2" if changed == "version" else "1"
    with pytest.raises(AssertionError):
        typechecked_once(must_not_be_asked, kept, version, shelf_class(file, module_name))
    anew = typechecked_once(typeguard.typechecked, kept, version, shelf_class(file, module_name))
    again = typechecked_once(must_not_be_asked, kept, version, shelf_class(file, module_name))
    for shelf in (anew, again):
        assert shelf.fits(1.5 if changed == "source" else 1)
        with pytest.raises(typeguard.TypeCheckError):
            shelf.fits("one")


def test_where_nothing_can_be_written_typeguard_does_it(module_name: str, tmp_path: Path) -> None:
    """A folder that cannot be made changes nothing but the time that it takes."""
    (tmp_path / "taken").write_text("a file")
    target = shelf_class(tmp_path / "shelves.py", module_name)
    shelf = typechecked_once(typeguard.typechecked, tmp_path / "taken", "1", target)
    with pytest.raises(typeguard.TypeCheckError):
        shelf("one")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("feast.entity", "Entity"),
        ("feast.field", "Field"),
        ("feast.feature_service", "FeatureService"),
        ("feast.stream_feature_view", "StreamFeatureView"),
    ],
)
def test_feast_is_checked_as_ever(module: str, name: str) -> None:
    """Classes that people write definitions with have the code that typeguard makes of them."""
    as_we_have_it = functions(getattr(import_module(module), name))
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.loader is not None
    anew = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(anew)
    made = functions(vars(anew)[name])
    assert {name: function.__code__ for name, function in as_we_have_it.items()} == {
        name: function.__code__ for name, function in made.items()
    }
    assert any("check_argument_types" in str(code.__code__.co_names) for code in made.values())


def test_typeguard_is_left_as_it_was() -> None:
    """Once Feast is imported typeguard's decorator is its own again, for whoever else uses it."""
    import_module("feast")
    assert inspect.isfunction(typeguard.typechecked)
    assert not any("feast_checks" in type(one).__module__ for one in sys.meta_path)
