"""Every command line that README, the site and the helps show: with small numbers here, as it stands among the slow tests.

Each runs in a folder with the files that it names (``tests.helpers.command_scene`` says what is in place of what). The slow
tests run on a machine without weights and without network: there resnet18 and convnext_atto are trained on digits, as
README says. With small numbers, random numbers are in place of their published weights, and networks of the zoo are
trained on digits for one epoch.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from probe.cli.main import COMMANDS
from probe.models.weights import digits
from tests.helpers.command_lines import check, distinct, run, shown_in_helps, shown_in_readme
from tests.helpers.command_scene import build, publish

LINES = distinct([*shown_in_readme(), *shown_in_helps()])

SMALL = {
    "filters": "-n 4 --images 1 --steps 1 --img-size 32",
    "adversarial": "-n 3 --images 1 --steps 1 --img-size 32",
    "ablate": "-n 8 --seeds 1 --epochs 1 --train-samples 16 --draws 1 --max-sites 1 --calibration-samples 8 --jobs 1",
    "dossier": "-n 3 --quick --img-size 32",
    "doctor": "-n 32 --steps 3 --no-sweep",
    "train": "-n 64 --epochs 1",
}
"""What makes a command quick, by its name; the last value of an option counts."""

SMALLER = (
    ("filters (?!.*--channels)", "--channels 0"),
    ("filters .*(all|trust)", "--model zoo:lenet --data digits"),
    ("filters .*(all|importance|concept|trust)", "-n 12"),
    ("resnet50.*--remove", "--img-size 32"),
    ("ablate .*--depths", "--depths 8,14"),
    ("ablate .*(lrn|dropout|--swap norm|--swap pool)", "--model zoo:alexnet?width=8"),
    ("ablate --(remove shortcut|swap residual|remove relu)(?!.*--depths)", "--model zoo:resnet?depth=8"),
    ("zoo:densenet", "--model zoo:densenet?depth=10&growth=4"),
    ("zoo:inception --remove", "--model zoo:inception?width=16"),
    ("densenet121", "--remove pool --img-size 32"),
    ("vgg11 --weights none$", "--views weights,activations,patches,features"),
    ("dossier .*zoo:resnet20", "--model zoo:resnet?depth=8"),
    ("dossier$", "--model zoo:lenet --data digits"),
    ("attacks .*--bench", "-n 3 --steps 5 --attack fmn --model zoo:lenet"),
    ("--attack standard", "-n 1 --eps 3"),
    ("--certify", "-n 1"),
    ("mifgsm", "--attack pgd?steps=2,mifgsm --eps 0:8/255:2 -n 1"),
    ("train .*--adversarial", "--steps 1"),
)
"""What makes single lines quick: a pattern in the line, and the arguments. A smaller member of the family is the same code."""


def small(line: str) -> list[str]:
    """Return the arguments that make a command line quick."""
    more = SMALL.get(line.split()[1], "").split()
    for pattern, arguments in SMALLER:
        if re.search(pattern, line):
            more += arguments.split()
    return more


@pytest.fixture(scope="module")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything that the lines name; its cache has the digits weights that were trained so far."""
    folder = tmp_path_factory.mktemp("scene")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBE_CACHE", str(folder / "cache"))
        build(folder, patch)
    return folder


@pytest.fixture
def scene(prototype: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the prototype as current and home folder, without network, and with the prototype's cache."""
    folder = tmp_path / "here"
    shutil.copytree(prototype, folder, ignore=shutil.ignore_patterns("cache", "hub"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PROBE_CACHE", str(prototype / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    return folder


def test_the_lines_are_found() -> None:
    """A parser that finds nothing would make the other tests empty."""
    assert len(shown_in_readme()) >= 50
    assert len(shown_in_helps()) >= 50
    assert len(LINES) >= 75
    assert {line.split()[1] for line in LINES} == set(COMMANDS)


def _remove_trained() -> None:
    """Remove what ``probe train`` is about to write: it overwrites nothing."""
    for path in Path().glob("robust.*"):
        path.unlink()


@pytest.mark.parametrize("line", LINES, ids=LINES)
def test_with_small_numbers(line: str, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_EPOCHS", ((float("inf"), 1, 1, 1e-3),))
    if re.search("resnet18|convnext", line):
        publish(monkeypatch)
    if re.search(r"--out \w+\.safetensors", line):
        _remove_trained()
    check(run(line, small(line)))


LONG = [line for line in LINES if small(line)]
"""The lines that small numbers make quicker; the others ran as they stand."""


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("line", LONG, ids=LONG)
def test_as_it_stands(line: str, scene: Path, trained_digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_CACHE", str(trained_digits))
    if re.search(r"--out \w+\.safetensors", line):
        _remove_trained()
    threads = torch.get_num_threads()
    try:
        check(run(line))
    finally:
        torch.set_num_threads(threads)
