"""Every example runs as it stands, and is as short as it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from probe.attacks.base import ATTACKS
from probe.graph.edit.structure import STRUCTURES
from studies.filters.registries import VIEWS

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:  # what an example adds is for itself
        for registry in (ATTACKS, STRUCTURES, VIEWS):
            for name in list(registry._added):
                del registry._added[name], registry._objects[name]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_at_most_a_dozen_lines(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.strip().startswith('"""')]
    assert len(lines) <= 12


def test_each_function_of_the_front_door_is_shown() -> None:
    text = "".join(path.read_text() for path in EXAMPLES)
    shown = (
        "wrap",
        "images",
        "filters",
        "adversarial",
        "ablate",
        "anatomy",
        "doctor",
        "compare",
        "attacks",
        "cut",
    )
    shown += ("sites", "receptive_field", "feature_picture", "attribute", "stats")
    assert all(f"probe.{name}" in text for name in shown)
