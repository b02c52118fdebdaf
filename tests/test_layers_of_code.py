"""The structure of the code: imports point downward only and in no circle, rooms are small, names are used once."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEVELS = {
    "probe.core": 0,
    "probe.attacks": 1,
    "probe.graph": 1,
    "probe.report": 1,
    "probe.data": 1,
    "probe.train.loop": 1,
    "probe.certify": 2,
    "probe.models": 2,
    "probe.train": 3,
    "studies.base": 3,
    "studies.checks": 3,
    "studies.filters": 4,
    "studies.adversarial": 4,
    "studies.ablation": 4,
    "probe.tools.anatomy": 4,
    "probe.tools.doctor": 4,
    "probe.tools.compare": 4,
    "probe.tools.dossier": 5,
    "probe.tools": 5,
    "probe.api": 6,
    "probe.cli": 6,
    "probe.__main__": 7,
}
PACKAGES = {"probe", "studies"}  # the packages themselves only hold lazily loaded public names
LONGEST = 400


def part(module: str) -> str | None:
    """The part of the architecture that a module belongs to."""
    fitting = [name for name in LEVELS if module == name or module.startswith(f"{name}.")]
    return max(fitting, key=len, default=None)


def modules() -> dict[str, Path]:
    paths = [p for top in sorted(PACKAGES) for p in sorted((ROOT / top).rglob("*.py"))]
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths]
    return dict(zip(names, paths, strict=True))


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Every module of ours that a file imports anywhere, and every one that it names in a string of its own."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in MODULES:
            found.add(node.value)  # for import_module, a registry, a table of lazy names
    return {name for name in found if name.split(".")[0] in PACKAGES}


def imported(path: Path, own: str) -> set[str]:
    """What a file needs in order to run: its imports, without those for annotations only and without its own name."""
    return {name for name in imports(path) if name != own}


@pytest.mark.parametrize("name", [name for name in MODULES if name not in PACKAGES])
def test_imports_point_downward(name: str) -> None:
    own = part(name)
    assert own is not None, f"{name} has no place in the architecture"
    for target in imported(MODULES[name], name):
        other = part(target)
        if other is None or other == own:
            continue
        assert LEVELS[other] < LEVELS[own], f"{name} imports {target}"


def test_no_circle_between_files() -> None:
    edges = {
        name: {
            target
            for target in imported(path, name)
            if target in MODULES and not name.startswith(f"{target}.")
        }
        for name, path in MODULES.items()
        if path.name != "__init__.py"
    }
    TopologicalSorter(edges).prepare()  # raises CycleError, which names the circle


def test_no_file_is_longer_than_can_be_read_at_a_sitting() -> None:
    long = {name: n for name, path in MODULES.items() if (n := path.read_text().count("\n")) > LONGEST}
    assert not long


def test_no_class_name_stands_for_two_things() -> None:
    places = defaultdict(list)
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("def f():\n    from probe.models import load\n", "probe.models.load"),
        ("from importlib import import_module\nimport_module('probe.models.load')\n", "probe.models.load"),
        ("NAMES = {'x': 'probe.cli.main'}\n", "probe.cli.main"),
        ("import probe.tools.doctor.study\n", "probe.tools.doctor.study"),
    ],
)
def test_a_forbidden_import_would_be_seen(tmp_path: Path, text: str, target: str) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(text)
    assert target in imports(bad)
    assert LEVELS[str(part(target))] > LEVELS["probe.data"]
