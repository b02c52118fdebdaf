"""The pages that the studies and tools really write: accessible, quiet, and no wider than the window."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from browser_axe import violations
from browser_tab import Tab

from probe.core.document import Report
from probe.core.progress import SILENT
from probe.data.load import load_images
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from probe.report.render import write_report
from probe.tools import anatomy, doctor, dossier
from probe.tools.compare import compare, read_runs
from probe.train.data import both_parts
from studies import ablation, adversarial, filters

pytestmark = pytest.mark.timeout(180)


def network(name: str = "zoo:lenet") -> LoadedModel:
    return load_model(name, weights="none", num_classes=10, device="cpu", offline=True)


def of_filters() -> Report:
    views = ("weights", "activations", "patches")
    return filters.run(network(), load_images("digits", n=12), filters.FiltersConfig(views=views, images=2))


def of_adversarial() -> Report:
    config = adversarial.AdversarialConfig(epsilons=(0.02, 0.05), attacks=("pgd?steps=3",), images=2)
    return adversarial.run(network(), load_images("digits", n=8), config)


def of_ablation() -> Report:
    parts = both_parts("digits", n=64, held_out=None, seed=0, offline=True, progress=SILENT)
    recipe = ablation.AblationConfig().recipe
    config = ablation.AblationConfig(
        remove=("relu",),
        swap=("pool",),
        mode="both",
        seeds=2,
        draws=1,
        jobs=1,
        recipe=type(recipe)(epochs=1, batch_size=16),
    )
    return ablation.run(network(), load_images("digits", n=12), config, training=parts)


def of_anatomy() -> Report:
    return anatomy.run(network("zoo:resnet?depth=8"), anatomy.AnatomyConfig())


def of_doctor() -> Report:
    return doctor.run(network(), load_images("digits", n=64), doctor.DoctorConfig(steps=8, sweep=False))


def of_comparison() -> Report:
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for steps in (1, 4):
            config = adversarial.AdversarialConfig(
                epsilons=(0.02, 0.05), attacks=(f"pgd?steps={steps}",), views=("curve",), checks=()
            )
            report = adversarial.run(network(), load_images("digits", n=12), config)
            runs.append(write_report(report, Path(folder) / str(steps)).parent)
        return compare(read_runs(runs))


def of_dossier() -> Report:
    config = dossier.DossierConfig(epsilon=0.05, quick=True, channels=6, pictured=2)
    return dossier.run(network("zoo:resnet?depth=8"), load_images("digits", n=8), config).report


MADE = {
    "comparison": of_comparison,
    "dossier": of_dossier,
    "filters": of_filters,
    "adversarial": of_adversarial,
    "ablation": of_ablation,
    "anatomy": of_anatomy,
    "doctor": of_doctor,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a report when it is first asked for."""
    folder, done = tmp_path_factory.mktemp("studies"), dict[str, Path]()

    def write(name: str) -> Path:
        if name not in done:
            done[name] = write_report(MADE[name](), folder / name)
        return done[name]

    return write


@pytest.mark.parametrize("name", MADE)
def test_a_real_report_is_accessible_and_fits(
    name: str, written: Callable[[str], Path], open_tab: Callable[..., Tab]
) -> None:
    file = written(name)
    assert file.stat().st_size < 5_000_000
    for width, dark in ((1280, False), (380, True)):
        page = open_tab(file, width=width, dark=dark).page
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert violations(page) == []
        heads = page.locator("th.head:not(.helped)")
        assert [heads.nth(i).inner_text() for i in range(heads.count())] == []
