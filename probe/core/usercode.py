"""Running a user's own Python file or module, with one-line errors that say what went wrong and where."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from probe.core.contained import contained
from probe.core.errors import CannotRunError, ProbeError, UsageError, did_you_mean

_MESSAGE_LENGTH = 200
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_PREFIX = "probe_user_"


class UserCodeError(CannotRunError):
    """The user's code raised an error; the message has the file and the line."""


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module and return the module; it can import from its own folder and the current one.

    A file in a package (a folder with ``__init__.py``) whose imports are relative is imported as a part of the package.

    Raises UsageError if there is no such file and UserCodeError if running it raises.
    """
    if not path.is_file():
        raise UsageError(f"There is no Python file {path}.")
    package = _package_of(path.resolve())
    if package is not None:
        root, dotted = package
        with user_errors(path, "cannot be imported"), import_path(root), import_path(Path.cwd()), contained():
            return importlib.import_module(dotted)
    name = f"{_PREFIX}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with (
            user_errors(path, "cannot be imported"),
            import_path(Path.cwd()),
            import_path(path.resolve().parent),
            contained(),
        ):
            spec.loader.exec_module(module)
    except ProbeError:
        del sys.modules[name]
        raise
    return module


def _package_of(path: Path) -> tuple[Path, str] | None:
    """Return the folder above the package that a file belongs to, and its dotted name; None if it imports nothing of it."""
    if not (path.parent / "__init__.py").is_file():
        return None
    try:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return None
    if not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes):
        return None
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file() and root.parent != root:
        parts.insert(0, root.name)
        root = root.parent
    return (root, ".".join(parts)) if all(part.isidentifier() for part in parts) else None


def load_package(dotted: str) -> ModuleType:
    """Import a module by its dotted name, also from the current folder.

    Raises UsageError if there is no such module and UserCodeError if importing it raises.
    """
    with user_errors(None, f"{dotted} cannot be imported"), import_path(Path.cwd()), contained():
        try:
            return importlib.import_module(dotted)
        except ModuleNotFoundError as error:
            # A missing import inside the user's module is the user's error, reported with its line.
            if error.name is None or not f"{dotted}.".startswith(f"{error.name}."):
                raise
            raise UsageError(
                f"Could not import {dotted}: there is no module '{error.name}' in this folder or installed. For a file, "
                "write path/to/net.py:FUNCTION."
            ) from error


def attribute(module: ModuleType, name: str, place: str) -> Any:
    """Return a module's function or class; an unknown name raises UsageError with the available names."""
    if not hasattr(module, name):
        own = [
            key
            for key, value in vars(module).items()
            if not key.startswith("_")
            and callable(value)
            and getattr(value, "__module__", "") == module.__name__
        ]
        listed = f" It defines {', '.join(own[:6])}." if own else " It defines no functions."
        raise UsageError(f"There is no function in {place} '{name}'.{did_you_mean(name, own)}{listed}")
    return getattr(module, name)


def functions_in(path: Path) -> str:
    """Return a sentence that lists the top-level functions and classes of a Python file, or nothing; it is not run."""
    try:
        body = ast.parse(path.expanduser().read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError, RecursionError):
        return ""
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [name for name in names if not name.startswith("_")]
    return f" It defines {', '.join(public[:6])}." if public else ""


def parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the parameters that can be given by name, none where they are not known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(parameter.name for parameter in parameters if parameter.kind in _BY_NAME)


def check_arguments(function: Callable[..., Any], shown: str, arguments: Mapping[str, Any]) -> None:
    """Raise UsageError if a function, called ``shown`` by the user, does not take these arguments, or needs more."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    names = parameter_names(function)
    has_kwargs = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    unknown = [key for key in arguments if key not in names]
    if unknown and not has_kwargs:
        takes = f"It takes {', '.join(names)}." if names else "It takes none."
        raise UsageError(f"{shown} takes no argument '{unknown[0]}'. {takes}")
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        and parameter.name not in arguments
    ]
    if missing:
        query = "&".join(f"{name}=…" for name in missing)
        raise UsageError(
            f"{shown} needs {'an argument' if len(missing) == 1 else 'arguments'} ({', '.join(missing)}): write "
            f"{shown}?{query}; what is no number or text, such as a config object, needs a function of yours that passes it."
        )


def digest(module: ModuleType) -> str:
    """Return the sha256 of the module's source file, or of its name if there is no file."""
    file = inspect.getsourcefile(module)
    try:
        content = Path(file).read_bytes() if file else module.__name__.encode()
    except OSError:
        content = module.__name__.encode()
    return hashlib.sha256(content).hexdigest()


def user_modules() -> tuple[ModuleType, ...]:
    """Return the modules imported from users' files, from the folders of those files, or from the current folder.

    Another process cannot import these modules by name.
    """
    files = [module for name, module in sys.modules.items() if name.startswith(_PREFIX)]
    folders = {Path(str(module.__file__)).resolve().parent for module in files} | {Path.cwd()}
    modules = []
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and Path(file).resolve().parent in folders and _is_users(file, None):
            modules.append(module)
    return tuple(modules)


@contextmanager
def import_path(folder: Path) -> Iterator[None]:
    """Let imports find modules in ``folder`` inside the block."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


@contextmanager
def user_errors(path: Path | None, what: str) -> Iterator[None]:
    """Convert any error of the user's code inside the block to UserCodeError with file, line and message."""
    try:
        yield
    except ProbeError:
        raise
    except SyntaxError as error:
        place = f"{error.filename or path}, line {error.lineno}"
        raise UserCodeError(f"{place}: {type(error).__name__}: {error.msg}.") from error
    except (Exception, SystemExit) as error:
        lines = str(error).strip().splitlines() or [""]
        message = lines[0][:_MESSAGE_LENGTH].rstrip(".")
        detail = f"{type(error).__name__}: {message}" if message else type(error).__name__
        raise UserCodeError(f"{_place(error, path) or what}: {detail}.") from error


def place_of(error: BaseException) -> str:
    """Return ``file, line N`` of the innermost frame in code outside probe and installed packages, empty without one."""
    return _place(error, None)


def _place(error: BaseException, path: Path | None) -> str:
    """Return file and line of the last frame in the user's file, or in code outside installed packages."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename, path)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _is_users(filename: str, path: Path | None) -> bool:
    file = Path(filename)
    if path is not None:
        return file.resolve() == path.resolve()
    ours = (Path(__file__).resolve().parents[1], Path(__file__).resolve().parents[2] / "studies")
    installed = {"site-packages", "importlib"} & set(file.parts)
    return file.is_file() and not installed and not set(ours) & set(file.resolve().parents)
