"""Imports point downward only: the command line, the studies, the models, the parts, the core."""

from __future__ import annotations

import ast
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
    "probe.models": 2,
    "probe.train": 3,
    "studies.base": 3,
    "studies.filters": 4,
    "studies.adversarial": 4,
    "studies.ablation": 4,
    "probe.tools.anatomy": 4,
    "probe.tools.doctor": 4,
    "probe.tools.compare": 4,
    "probe.tools.dossier": 5,
    "probe.tools": 5,
    "probe.cli": 6,
    "probe.__main__": 7,
}
LAZY_NAMES = {"probe", "studies"}  # the packages themselves only hold lazily loaded public names


def part(module: str) -> str | None:
    """The part of the architecture that a module belongs to."""
    fitting = [name for name in LEVELS if module == name or module.startswith(f"{name}.")]
    return max(fitting, key=len, default=None)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in LAZY_NAMES}


def modules() -> list[tuple[str, Path]]:
    paths = [p for top in ("probe", "studies") for p in sorted((ROOT / top).rglob("*.py"))]
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths]
    return [(name, path) for name, path in zip(names, paths, strict=True) if name not in LAZY_NAMES]


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda v: v if isinstance(v, str) else "")
def test_imports_point_downward(name: str, path: Path) -> None:
    own = part(name)
    assert own is not None, f"{name} has no place in the architecture"
    for imported in imports(path):
        other = part(imported)
        if other is None or other == own:
            continue
        assert LEVELS[other] < LEVELS[own], f"{name} imports {imported}"


def test_a_forbidden_import_would_be_seen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from probe.models import load\n")
    assert {part(name) for name in imports(bad)} == {"probe.models"}
    assert LEVELS["probe.models"] > LEVELS["probe.data"]
