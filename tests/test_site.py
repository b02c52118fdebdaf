"""The site says all that there is: every registry has its list, every page its place, every local link its target."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = {f"reference/{name}.md" for name in ("cli", "python", "lists", "results")}


def registries() -> set[str]:
    """The packages of all registries in the code."""
    found = set()
    for top in ("probe", "studies"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "Registry"
                ):
                    found |= {value.value for value in node.args[1:] if isinstance(value, ast.Constant)}
    return found


def test_every_registry_has_its_list() -> None:
    tree = ast.parse((DOCS / "hooks.py").read_text(encoding="utf-8"))
    (lists,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LISTS"
    )
    listed = {package for _, package in ast.literal_eval(lists).values()}
    assert listed == registries()
    assert len(listed) >= 13


def pages(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages(part)]  # type: ignore[attr-defined]


def test_every_page_has_its_place_in_the_navigation() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    written = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert sorted(pages(config["nav"])) == sorted(written | GENERATED)


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert len(text.splitlines()) <= 150
