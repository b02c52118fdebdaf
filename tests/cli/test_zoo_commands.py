"""Every family of the zoo through every study from the command line, with weights trained on digits.

The slow tests take the command line's defaults; with small numbers tests/contracts/test_zoo_studies.py runs the studies.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.models.weights import digits
from tests.helpers.command_lines import check, run
from tests.helpers.zoo_families import FAMILIES

STUDIES = ("filters", "adversarial", "ablate")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits weights of this module's tests: each network is trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(own_cache: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(cache))
    return tmp_path


def line_for(study: str, family: str, model: str) -> str:
    """The command line; ablate takes shortcuts by default, which most families do not have."""
    structure = FAMILIES[family][0]
    more = f" --remove {structure}" if study == "ablate" and structure != "shortcut" else ""
    return f'probe {study} -m "zoo:{model}" -d digits{more}'


def test_the_default_of_resnet20(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its empty ``head`` is a layer whose channels can be drawn, though the traced graph keeps no empty module."""
    monkeypatch.setattr(digits, "_EPOCHS", ((float("inf"), 1, 1, 1e-3),))
    check(
        run(
            "probe filters -m zoo:resnet20 -d digits",
            ["-n", "4", "--images", "1", "--steps", "1", "--channels", "0"],
        )
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("study", STUDIES)
def test_at_the_defaults(study: str, family: str, folder: Path) -> None:
    check(run(line_for(study, family, family)))
