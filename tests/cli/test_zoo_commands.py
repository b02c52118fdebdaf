"""Every family of the zoo through every study from the command line, with weights trained on digits.

Random weights are not enough: with them the attribution view has nothing to randomise. Here small members are trained
for one epoch and every view and check runs with small numbers; the slow tests take the command line's defaults.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.models.weights import digits
from tests.helpers.command_lines import check, run
from tests.helpers.zoo_families import FAMILIES

SMALL = {
    "filters": "-n 4 --images 1 --steps 1 --channels 0",
    "adversarial": "-n 3 --images 1 --steps 1",
    "ablate": "-n 8 --seeds 1 --epochs 1 --train-samples 16 --draws 1 --max-sites 1 --calibration-samples 8 --jobs 1",
}


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


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("study", SMALL)
def test_with_small_numbers(study: str, family: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_EPOCHS", ((float("inf"), 1, 1, 1e-3),))
    check(run(line_for(study, family, FAMILIES[family][1]), SMALL[study].split()))


def test_the_default_of_resnet20(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its empty ``head`` is a layer whose channels can be drawn, though the traced graph keeps no empty module."""
    monkeypatch.setattr(digits, "_EPOCHS", ((float("inf"), 1, 1, 1e-3),))
    check(run("probe filters -m zoo:resnet20 -d digits", SMALL["filters"].split()))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("study", SMALL)
def test_at_the_defaults(study: str, family: str, folder: Path) -> None:
    check(run(line_for(study, family, family)))
