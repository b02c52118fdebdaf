"""One new file a kind, and nothing else: it is found in the lists, in the help and in the report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

FILES = {
    "probe/attacks/families/mine_attack.py": '''
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits


@ATTACKS.register("brighten")
@dataclass(frozen=True)
class Brighten(Attack):
    """Makes every pixel brighter by epsilon."""

    traits: ClassVar[Traits] = Traits(norms=("Linf",), access="none", paper="none", targeted=True)

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        return inputs.images + inputs.epsilon
''',
    "studies/adversarial/checks/mine_check.py": '''
from probe.core.document import Check
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("always-fine")
def always_fine(evidence: Evidence) -> Check:
    """Passes, whatever it sees."""
    return Check("Always fine", "pass", None, "Nothing was looked at.")
''',
    "studies/filters/views/mine_view.py": '''
from probe.core.blocks import Note
from probe.core.document import Section
from studies.filters.registries import VIEWS
from studies.filters.workspace import FiltersWorkspace


@VIEWS.register("greeting")
def greeting(space: FiltersWorkspace) -> Section:
    """Says hello."""
    return Section("greeting", "Greeting", blocks=(Note("Hello."),))
''',
    "probe/graph/structures/mine_structure.py": '''
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from probe.graph.edit.structure import STRUCTURES, ModuleReplacement


@STRUCTURES.register("tanh")
@dataclass(frozen=True)
class TanhRemoval(ModuleReplacement):
    """A tanh; its input is handed on."""

    name: ClassVar[str] = "tanh"

    @property
    def default_model(self) -> str:
        return "net.py:net"

    def replacement(self, module: nn.Module) -> nn.Module | None:
        return nn.Identity() if isinstance(module, nn.Tanh) else None
''',
    "probe/graph/swaps/mine_swap.py": '''
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from probe.graph.edit.structure import SWAPS, ModuleReplacement
from probe.graph.edit.swap import Swap


@SWAPS.register("soft")
@dataclass(frozen=True)
class Soft(Swap, ModuleReplacement):
    """A tanh for a softsign."""

    to: Literal["softsign"] = "softsign"
    name: ClassVar[str] = "swap:soft"

    @property
    def arm(self) -> str:
        return "with softsign"

    def replacement(self, module: nn.Module) -> nn.Module | None:
        return nn.Softsign() if isinstance(module, nn.Tanh) else None
''',
    "probe/tools/doctor/causes/mine_cause.py": '''
from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.registries import CAUSES


@CAUSES.register("bad-luck")
def bad_luck(evidence: TrainingEvidence) -> Diagnosis:
    """Nothing but bad luck."""
    return Diagnosis("bad-luck", "clear", "Bad luck", "There was none.")
''',
    "probe/data/sources/mine_data.py": '''
import numpy as np

from probe.data.images import ImageSet, array_items
from probe.data.source import SOURCES, Request


@SOURCES.register("stripes")
def stripes(request: Request) -> ImageSet:
    """Stripes, upright or level."""
    pixels = np.zeros((24, 8, 8), dtype=np.uint8)
    pixels[::2, ::2] = 255
    pixels[1::2, :, ::2] = 255
    pixels += np.random.default_rng(0).integers(0, 9, pixels.shape, dtype=np.uint8) // 9
    items = array_items(pixels, np.arange(24) % 2, lambda i: f"stripes {i}")
    return ImageSet("stripes", items, ("level", "upright"), "stripes", framed=True)
''',
    "probe/models/sources/mine_models.py": '''
from probe.models.source import SOURCES, Architecture, ModelRow
from torch import nn


def build(options):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, options.num_classes or 2))


@SOURCES.register("attic")
class Attic:
    """Old networks."""

    rank = None

    def knows(self, target):
        return target == "tanhnet"

    def names(self):
        return ("tanhnet",)

    def find(self, target, options, access):
        return Architecture(name=target, source=f"attic:{target}", build=build, licence="MIT")

    def rows(self):
        yield ModelRow("tanhnet", "attic", ("none",), "never trained", ())
''',
    "probe/data/corruptions/mine_corruption.py": '''
from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Corruption


@CORRUPTIONS.register("darkness")
class Darkness(Corruption[float]):
    """Less light."""

    title = "darkness"
    large = small = (0.9, 0.7, 0.5, 0.3, 0.1)

    def _corrupt(self, pixels, parameters, scale, generator):
        return pixels * parameters
''',
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with one file of each kind dropped in."""
    tree = tmp_path_factory.mktemp("tree")
    for package in ("probe", "studies"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        assert not (tree / name).exists()
        (tree / name).write_text(text.lstrip())
    return tree


def probe(tree: Path, words: str) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "OMP_NUM_THREADS": "1",
        "PROBE_CACHE": str(tree / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "probe", *words.split()],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def results(tree: Path, words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(probe(tree, f"{words} -q --format json"))
    return found


@pytest.mark.parametrize(
    ("words", "name", "summary"),
    [
        ("attacks", "brighten", "Makes every pixel brighter"),
        ("adversarial --help", "always-fine", "Passes, whatever it sees"),
        ("filters --help", "greeting", "Says hello"),
        ("ablate --help", "tanh", "A tanh; its input"),
        ("ablate --help", "soft", "A tanh for a softsign"),
        ("doctor --help", "bad-luck", "Nothing but bad luck"),
        ("models attic:", "tanhnet", "never trained"),
        ("adversarial --help", "darkness", "Less light"),
    ],
)
def test_a_new_file_is_listed(tree: Path, words: str, name: str, summary: str) -> None:
    lines = [line for line in probe(tree, words).splitlines() if name in line]
    assert any(summary in line for line in lines)


NET = "-m attic:tanhnet --weights none -d stripes"


def test_an_attack_a_check_and_a_corruption_are_in_the_report(tree: Path) -> None:
    words = f"adversarial {NET} --attack brighten --eps 0.1 --views attacks,corruption --corruptions darkness --checks always-fine"
    found = results(tree, words)
    names = {result["name"] for result in found["results"]}
    assert "robust_accuracy:brighten" in names
    assert any("darkness@5" in name for name in names)
    assert [check["name"] for check in found["checks"]] == ["Always fine"]


def test_a_view_is_in_the_report(tree: Path) -> None:
    probe(tree, f"filters {NET} --views greeting --out look -q")
    assert "Hello." in (tree / "look" / "report.html").read_text(encoding="utf-8")


def test_a_structure_and_a_swap_are_in_the_report(tree: Path) -> None:
    lesions = results(tree, f"ablate {NET} --remove tanh --mode lesion")
    assert any(result["name"] == "lesion_accuracy:tanh:all" for result in lesions["results"])
    trained = results(tree, f"ablate {NET} --swap soft --mode retrain --seeds 1 --epochs 1 --jobs 1")
    assert any("swap:soft" in result["name"] for result in trained["results"])


def test_a_cause_is_in_the_report(tree: Path) -> None:
    probe(tree, f"doctor {NET} --steps 3 --no-sweep --out ill -q")
    assert "Bad luck" in (tree / "ill" / "report.html").read_text(encoding="utf-8")
