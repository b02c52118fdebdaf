"""The registry lists names without importing, imports one module on demand, and refuses doubles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from probe.core.errors import UsageError
from probe.core.registry import Registry

FILE = '''
from {package}.registry import THINGS

@THINGS.register("{name}")
def thing():
    """{summary}

    More text.
    """
    return "{name}"
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    name = f"registry_{abs(hash(request.node.name))}"
    folder = tmp_path / name
    (folder / "things").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "things" / "__init__.py").touch()
    (folder / "registry.py").write_text(
        f"from probe.core.registry import Registry\nTHINGS = Registry('thing', '{name}.things')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def add(package: Path, file: str, name: str, summary: str = "Say it.") -> None:
    text = FILE.format(package=package.name, name=name, summary=summary)
    (package / "things" / f"{file}.py").write_text(text)


def registry(package: Path) -> Registry[object]:
    module = __import__(f"{package.name}.registry", fromlist=["THINGS"])
    things: Registry[object] = module.THINGS
    return things


def test_names_are_listed_without_importing(package: Path) -> None:
    add(package, "b", "beta", "Do beta.")
    add(package, "a", "alpha", "Do alpha.")
    things = registry(package)
    assert things.names() == ("alpha", "beta")
    assert things.entries["beta"].summary == "Do beta."
    assert f"{package.name}.things.a" not in sys.modules


def test_get_imports_only_the_module_asked_for(package: Path) -> None:
    add(package, "a", "alpha")
    add(package, "b", "beta")
    things = registry(package)
    thing = things.get("alpha")
    assert callable(thing)
    assert thing() == "alpha"
    assert f"{package.name}.things.b" not in sys.modules


def test_a_file_that_cannot_be_imported_does_not_hide_the_others(package: Path) -> None:
    add(package, "a", "alpha")
    add(package, "b", "beta")
    with (package / "things" / "b.py").open("a") as file:
        file.write("\nraise RuntimeError('broken')\n")
    things = registry(package)
    assert things.names() == ("alpha", "beta")
    things.get("alpha")
    with pytest.raises(RuntimeError, match="broken"):
        things.get("beta")


def test_unknown_names_list_the_known_and_the_nearest(package: Path) -> None:
    add(package, "a", "alpha")
    with pytest.raises(UsageError, match=r"no thing 'alpa'.*Did you mean 'alpha'.*Known: alpha"):
        registry(package).get("alpa")


def test_the_same_name_in_two_files_is_refused(package: Path) -> None:
    add(package, "a", "alpha")
    add(package, "b", "alpha")
    with pytest.raises(ValueError, match=r"'alpha' is registered in .*\.a and in .*\.b"):
        registry(package).names()


def test_a_name_from_outside_is_known_while_the_program_runs(package: Path) -> None:
    add(package, "a", "alpha", "Do alpha.")
    things = registry(package)
    assert things.names() == ("alpha",)

    @things.register("aardvark", order=1, optional=True)
    def own() -> str:
        """Do it.

        More text.
        """
        return "own"

    assert things.names() == ("aardvark", "alpha")
    entry = things.entries["aardvark"]
    assert (entry.summary, entry.module, entry.attribute, entry.optional) == ("Do it.", __name__, "own", True)
    assert things.get("aardvark") is own
    assert "aardvark" in things
    again = object()
    things.register("aardvark")(again)  # the cell of a notebook, run again
    assert things.get("aardvark") is again


@pytest.mark.parametrize("imported", [False, True])
def test_a_name_of_the_package_is_not_replaced_from_outside(package: Path, imported: bool) -> None:
    add(package, "a", "alpha", "Do alpha.")
    things = registry(package)
    own = things.get("alpha") if imported else None
    with pytest.raises(ValueError, match="registered twice"):
        things.register("alpha")(object())
    assert own is None or things.get("alpha") is own


def test_files_that_begin_with_an_underscore_are_helpers(package: Path) -> None:
    add(package, "_helper", "hidden")
    add(package, "a", "alpha")
    assert registry(package).names() == ("alpha",)
