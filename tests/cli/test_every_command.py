"""Every command line that README and the helps show: with small numbers here, and as it stands among the slow tests.

Each runs in a folder with the files that it names (``tests.helpers.command_scene`` says what is in place of what). The slow
tests run on a machine without weights and without network: there resnet18 and convnext_atto are trained on digits, as
README says. With small numbers, random numbers are in place of their published weights, and networks of the zoo are
trained on digits for one epoch.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import torch

from probe.models.weights import digits
from probe.report.results import schema
from tests.helpers.command_lines import Ran, distinct, run, shown_in_helps, shown_in_readme, split
from tests.helpers.command_scene import build, publish

LINES = distinct([*shown_in_readme(), *shown_in_helps()])

SMALL = {
    "filters": "-n 4 --images 1 --steps 1 --img-size 64",
    "adversarial": "-n 4 --images 1 --steps 1 --img-size 32",
    "ablate": "-n 8 --seeds 2 --epochs 1 --train-samples 16 --draws 1 --max-sites 2 --calibration-samples 8 --jobs 1",
    "dossier": "-n 3 --quick",
    "doctor": "-n 32 --steps 3 --no-sweep",
    "train": "-n 64 --epochs 1",
}
"""What makes a command quick, by its name; the last value of an option counts."""

WRITES = ("filters", "adversarial", "ablate", "dossier", "doctor", "compare")
"""The commands that always write a report."""

BAD = re.compile(r"traceback|a bug in probe|part failed|failed and is missing|could not be made|defect", re.IGNORECASE)


def small(line: str) -> list[str]:
    """Return the arguments that make a command line quick."""
    more = SMALL.get(line.split()[1], "").split()
    if line.startswith("probe filters") and "--channels" not in line:
        more += ["--channels", "0"]
    if "--depths" in line:
        more += ["--depths", "8,14"]
    if re.search("lrn|dropout|--swap norm|--swap pool", line):
        more += ["--model", "zoo:alexnet?width=8"]
    if "--attack standard" in line:
        more += ["-n", "1"]
    if "square" in line:
        more += ["--attack", "pgd?steps=2,mifgsm,square?queries=20"]
    if line.startswith("probe train") and "--adversarial" in line:
        more += ["--steps", "1"]
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
def scene(
    prototype: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
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


def check(ran: Ran) -> None:
    """The exit code is as documented, no part is missing, and what should be written was written."""
    gated = "--fail-under" in ran.line
    assert ran.code in ((0, 1) if gated else (0,)), ran.err
    assert not BAD.search(ran.err), ran.err
    words = split(ran.line)
    if words.arguments[0] in WRITES or "--html" in words.arguments:
        assert ran.new, "no report"
    for path in ran.new:
        document = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(document, schema())
        assert document["status"] == "done", document["warnings"]
        assert not BAD.search(json.dumps(document)), BAD.search(json.dumps(document))
        assert (path.parent / "report.html").stat().st_size > 10_000
    if words.arguments[0] == "train":
        assert list(Path().glob("*.safetensors"))
    if words.target is not None:
        assert words.target.stat().st_size > 500
    if "--format json" in ran.line:
        assert json.loads(ran.out)
    elif words.arguments[0] not in WRITES and not words.target:
        assert len(ran.out.splitlines()) > 1


def test_the_lines_are_found() -> None:
    """A parser that finds nothing would make the other tests empty."""
    assert len(shown_in_readme()) >= 50
    assert len(shown_in_helps()) >= 50
    assert len(LINES) >= 75
    from probe.cli.main import COMMANDS

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


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("line", LINES, ids=LINES)
def test_as_it_stands(line: str, scene: Path) -> None:
    if re.search(r"--out \w+\.safetensors", line):
        _remove_trained()
    threads = torch.get_num_threads()
    try:
        check(run(line))
    finally:
        torch.set_num_threads(threads)
