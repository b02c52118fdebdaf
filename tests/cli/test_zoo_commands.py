"""Every family of the zoo through every study from the command line, with weights trained on digits.

The slow tests take the command line's defaults, but for the number of attacked images; with small numbers
tests/contracts/test_zoo_studies.py runs the studies.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.models.weights import digits
from tests.helpers.command_lines import check, run
from tests.helpers.zoo_families import FAMILIES

SHOWN = {
    "filters": {"resnet"},
    "adversarial": {"resnet"},
    "ablate": {"alexnet", "densenet", "inception", "nin", "resnet", "vgg"},
}
"""The families that README, the helps or the site take in a study: tests/cli/test_every_command.py runs those lines."""
STUDIES = [(study, family) for study, shown in SHOWN.items() for family in FAMILIES if family not in shown]


@pytest.fixture
def folder(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line_for(study: str, family: str) -> str:
    """The command line; ablate takes shortcuts by default, which most families do not have.

    An attack on as many images as by default takes many minutes a core; 40 take the same way.
    """
    more = {"ablate": f" --remove {FAMILIES[family][0]}", "adversarial": " -n 40"}.get(study, "")
    return f"probe {study} -m zoo:{family} -d digits{more}"


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
@pytest.mark.parametrize(("study", "family"), STUDIES)
def test_at_the_defaults(
    study: str, family: str, folder: Path, trained_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_CACHE", str(trained_digits))
    check(run(line_for(study, family)))
