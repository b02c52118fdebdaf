"""The registry of everything that is looked up by name: views, sources, attacks, structures."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from probe.core.errors import unknown

T = TypeVar("T")
W = TypeVar("W")


@dataclass(frozen=True)
class Entry:
    """A registered name: its module, its one-line summary, its position in the order, and the object's own name.

    ``optional`` entries are used only where they are named. ``passes`` is what one costs, about, in forward passes of an image:
    always, and for each image of the run.
    """

    name: str
    module: str
    summary: str
    order: float = math.inf
    attribute: str = ""
    optional: bool = False
    passes: tuple[float, float] = (0.0, 0.0)


class Registry(Generic[T]):
    """Names and the objects behind them, discovered in the modules of one package.

    Listing names reads the package's source files without importing them, so that
    ``--help`` stays fast; looking a name up imports the one module that registers it.
    An object is registered by a decorator with a literal name::

        VIEWS: Registry[View] = Registry("view", "studies.filters.views")

        @VIEWS.register("weights")
        def compute(...): ...

    The same in a file outside the package, such as a user's script or notebook, adds the name while the program runs.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._objects: dict[str, T] = {}
        self._added: dict[str, Entry] = {}

    def register(
        self,
        name: str,
        *,
        order: int | None = None,
        optional: bool = False,
        passes: tuple[float, float] = (0.0, 0.0),
    ) -> Callable[[T], T]:
        """Register the decorated object under ``name``; raises ValueError if the name is already used in the package.

        From outside the package, the same name again replaces the object, as when a cell of a notebook is run again.
        ``order`` is its position, if the order of the names matters; names without one follow alphabetically. What is
        ``optional`` is used only where it is named, and ``passes`` says what it costs; all are read from the source, and must
        be literals.
        """

        def add(item: T) -> T:
            module = getattr(item, "__module__", "")
            outside = not module.startswith(f"{self.package}.")
            if (name in self._objects and name not in self._added) or (outside and name in self._found):
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._objects[name] = item
            if outside:
                summary = (inspect.getdoc(item) or "").partition("\n")[0]
                where = math.inf if order is None else order
                attribute = getattr(item, "__name__", "")
                self._added[name] = Entry(name, module, summary, where, attribute, optional, passes)
            return item

        return add

    @property
    def entries(self) -> dict[str, Entry]:
        """Every registered name with its module and summary, by order and name; nothing is imported."""
        return _sorted(self._found | self._added) if self._added else self._found

    @cached_property
    def _found(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for path in self._files():
            for entry in _scan(path, f"{self.package}.{path.stem}"):
                if entry.name in entries:
                    raise ValueError(
                        f"{self.kind} '{entry.name}' is registered in {entries[entry.name].module} "
                        f"and in {entry.module}"
                    )
                entries[entry.name] = entry
        return _sorted(entries)

    def names(self) -> tuple[str, ...]:
        """Every registered name, by order and name."""
        return tuple(self.entries)

    def get(self, name: str) -> T:
        """Return the object called ``name``; an unknown name raises UsageError and lists the known ones."""
        entry = self.entries.get(name)
        if entry is None:
            raise unknown(self.kind, name, self.names(), len(self.entries))
        if name not in self._added:
            importlib.import_module(entry.module)
        return self._objects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def _files(self) -> list[Path]:
        spec = importlib.util.find_spec(self.package)
        roots = spec.submodule_search_locations if spec else None
        if not roots:
            raise ValueError(f"{self.package} is not a package")
        return sorted(path for root in roots for path in Path(root).glob("[!_]*.py"))


def _sorted(entries: dict[str, Entry]) -> dict[str, Entry]:
    return dict(sorted(entries.items(), key=lambda item: (item[1].order, item[0])))


def _scan(path: Path, module: str) -> Iterator[Entry]:
    """Yield the names that a file registers, read from its decorators."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            name = _registered_name(decorator)
            if name is not None:
                summary = (ast.get_docstring(node) or "").strip().partition("\n")[0]
                yield Entry(
                    name,
                    module,
                    summary,
                    _word(decorator, "order", math.inf),
                    node.name,
                    _word(decorator, "optional", False),
                    _word(decorator, "passes", (0.0, 0.0)),
                )


def _registered_name(decorator: ast.expr) -> str | None:
    if not (isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute)):
        return None
    if decorator.func.attr != "register" or not decorator.args:
        return None
    name = decorator.args[0]
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None


def _word(decorator: ast.expr, name: str, default: W) -> W:
    """Return the literal that a decorator gives for a keyword."""
    words = decorator.keywords if isinstance(decorator, ast.Call) else []
    found: W = next((ast.literal_eval(word.value) for word in words if word.arg == name), default)
    return found
