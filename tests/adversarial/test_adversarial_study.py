"""The adversarial study from end to end, on a small network that has learned the digits."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.adversarial_networks import batch, trained
from helpers.adversarial_runs import NONE, QUICK, image_set, model_of, study, value
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from probe.attacks.families.gradient import PGD
from probe.attacks.judge import judge
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS
from probe.core.blocks import Figure, SteppedGallery, Table
from probe.core.document import Report
from probe.core.errors import CannotRunError, UsageError
from probe.core.journal import FileJournal
from probe.core.seeds import generator
from probe.core.state import fingerprint
from probe.core.stats import wilson
from probe.report.results import to_json
from studies.adversarial import AdversarialConfig, ComparisonModels
from studies.adversarial.attack_run import AttackRun, attacked_model, make_task
from studies.adversarial.registries import CHECKS
from studies.adversarial.study import attacks_for


def without_times(report: Report) -> str:
    """The numbers of a report, but for those that measure time."""
    document = to_json(report)
    for key in ("created", "seconds"):
        document.pop(key)
    return json.dumps(document)


@pytest.fixture(scope="module")
def whole() -> Report:
    return study()


def test_a_run_says_everything(whole: Report) -> None:
    assert [s.id for s in whole.sections] == [
        "attacks",
        "curve",
        "pictures",
        "attention",
        "channels",
        "corruption",
        "classes",
    ]
    assert not [s.reason for s in whole.sections if s.reason]
    assert {check.name for check in whole.checks} >= {"Silent success"}
    assert len(whole.checks) == len(CHECKS.names())
    assert "correctly" in whole.headline[0]
    assert whole.extra["verdict"]["reliable"] in (True, False)
    assert whole.extra["verdict"]["text"] == value(whole, "verdict")


def test_robust_accuracy_is_what_an_independent_count_says(whole: Report) -> None:
    """Count again, by the network alone, on what the two attacks return by themselves."""
    images, labels = batch(n=20)
    pixels = (images * 255).round() / 255
    network = trained()
    right = network(pixels).argmax(1) == labels
    assert value(whole, "clean_accuracy") == pytest.approx(float(right.float().mean()))
    model = AttackedModel(model_of().module)
    proposals = PGD(steps=200, restarts=5).perturb(
        model, pixels, labels, NORMS["Linf"], 0.1, generator(0, "again")
    )
    assert float((proposals - pixels).abs().max()) <= 0.1 + 1e-6
    standing = float((network(proposals).argmax(1) == labels).float().mean())
    assert abs(value(whole, "robust_accuracy") - standing) <= 1 / 20 + 1e-9


def test_intervals_are_wilsons(whole: Report) -> None:
    result = whole.results[0]
    assert result.name == "robust_accuracy"
    assert result.n == 20
    assert result.ci == pytest.approx(wilson(round(20 * result.value), 20))


def test_the_curve_falls_from_clean_accuracy_to_nothing(whole: Report) -> None:
    points = [
        (float(r.name.partition("@")[2]), r.value) for r in whole.results if "robust_accuracy@" in r.name
    ]
    assert points[0] == (0.0, value(whole, "clean_accuracy"))
    assert [e for e, _ in points] == sorted(e for e, _ in points)
    assert all(a >= b for (_, a), (_, b) in itertools.pairwise(points))
    assert points[-1][1] == 0.0
    assert dict(points)[0.1] == value(whole, "robust_accuracy")
    figure = next(b for b in whole.sections[1].blocks if isinstance(b, Figure))
    assert figure.series[0].low
    assert figure.series[0].high


def test_pictures_keep_to_their_epsilon(whole: Report) -> None:
    slides = next(b for s in whole.sections for b in s.blocks if isinstance(b, SteppedGallery))
    assert len(slides.rows) == 2
    assert slides.steps[-1] == "ε = 0.1"
    for row in slides.rows:
        for strip in row:
            assert len(strip.pictures) == 3
    last = slides.rows[0][-1]
    original, _, moved = (p.pixels.astype(int) for p in last.pictures)
    assert 0 < np.abs(original - moved).max() <= round(0.1 * 255) + 1


def test_two_runs_with_one_seed_give_the_same_numbers(whole: Report) -> None:
    table = next(b for b in whole.sections[0].blocks if isinstance(b, Table))
    assert table.rows
    assert without_times(study()) == without_times(whole)


def test_the_network_and_the_global_generators_are_left_alone() -> None:
    model = model_of()
    before, state = fingerprint(model.module), torch.get_rng_state()
    study(dataclasses.replace(QUICK, attacks=("fgsm",)), model=model)
    assert fingerprint(model.module) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_so_they_are_when_an_attack_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    before = fingerprint(model.module)

    def fails(*_: Any) -> Tensor:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(PGD, "_perturb", fails)
    with pytest.raises(RuntimeError, match="on purpose"):
        study(dataclasses.replace(QUICK, attacks=("pgd",)), model=model)
    assert fingerprint(model.module) == before


def test_unlabelled_images_are_judged_by_the_clean_answer() -> None:
    report = study(dataclasses.replace(QUICK, views=("attacks",), checks=NONE), image_set(labelled=False))
    assert value(report, "clean_agreement") == 1.0
    assert "its own prediction without attack" in report.headline[0]
    assert "not checked" in report.headline[1]


def test_several_epsilons_are_the_curve() -> None:
    config = dataclasses.replace(QUICK, epsilons=(0.0, 0.05, 0.2), views=("curve",), checks=NONE)
    report = study(config)
    assert report.config["epsilons"] == [0.0, 0.05, 0.2]


def test_epsilon_zero_is_clean_accuracy() -> None:
    report = study(dataclasses.replace(QUICK, epsilons=(0.0,)))
    assert value(report, "robust_accuracy") == value(report, "clean_accuracy")


@pytest.mark.parametrize("norm", ["L2", "L1", "L0"])
def test_the_other_norms(norm: str) -> None:
    epsilon = {"L2": 1.0, "L1": 4.0, "L0": 4.0}[norm]
    report = study(dataclasses.replace(QUICK, norm=norm, epsilons=(epsilon,), steps=20))
    assert value(report, "robust_accuracy") < value(report, "clean_accuracy")
    assert not [s.reason for s in report.sections if s.reason]


def test_a_minimum_norm_attack_serves_every_epsilon() -> None:
    """One run of DeepFool: its distances are the curve."""
    config = dataclasses.replace(
        QUICK, norm="L2", epsilons=(0.2, 0.5, 1.0), attacks=("deepfool",), steps=None, views=NONE, checks=NONE
    )
    report = study(config)
    images, labels = batch(n=20)
    pixels = (images * 255).round() / 255
    model = AttackedModel(model_of().module)
    moved = judge(
        model,
        pixels,
        _deepfool(model, pixels, labels),
        labels,
        NORMS["L2"],
        100.0,
    )
    for epsilon in (0.2, 0.5, 1.0):
        # Drawn back along its perturbation, a success can only have become smaller.
        most = float((~(moved.success & (moved.sizes <= epsilon))).double().mean())
        assert value(report, f"robust_accuracy@{epsilon:.6g}") <= most


def _deepfool(model: AttackedModel, images: Tensor, labels: Tensor) -> Tensor:
    from probe.attacks.families.deepfool import DeepFool

    return DeepFool().perturb(model, images, labels, NORMS["L2"], 1.0, generator(0, "deepfool"))


@pytest.mark.parametrize("target", ["least-likely", "random", "3"])
def test_targeted_attacks_reach_their_class(target: str) -> None:
    config = dataclasses.replace(
        QUICK, epsilons=(0.6,), target=target, steps=40, views=("attacks", "pictures"), checks=NONE
    )
    report = study(config)
    assert "target class" in report.headline[0]
    assert value(report, "success_rate") > 0.5
    if target == "3":
        threes = int((batch(n=20)[1] == 3).sum())
        assert threes > 0
        assert report.data.n == 20 - threes


def campaign(journal: Any, config: AdversarialConfig = QUICK) -> AttackRun:
    from probe.core.progress import SILENT
    from studies.adversarial.microbatch import MicroBatcher

    model = model_of()
    task = make_task(config.epsilons, NORMS["Linf"], (1, 8, 8), 0)
    attacks = attacks_for(config, NORMS["Linf"])
    return AttackRun(
        model,
        attacked_model(model, False),
        image_set(),
        attacks,
        task,
        None,
        8,
        MicroBatcher(8),
        journal,
        SILENT,
    )


class Interrupting:
    """A journal that is interrupted once it has kept one batch."""

    def __init__(self, inner: FileJournal) -> None:
        self.inner = inner

    def load(self, key: str) -> Mapping[str, NDArray[Any]] | None:
        return self.inner.load(key)

    def save(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.inner.save(key, arrays)
        raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    straight = campaign(FileJournal(tmp_path, {"run": 1}, resume=False)).run()
    kept = FileJournal(tmp_path, {"run": 2}, resume=False)
    with pytest.raises(KeyboardInterrupt):
        campaign(Interrupting(kept)).run()
    assert kept.saved == 1
    again = FileJournal(tmp_path, {"run": 2}, resume=True)
    resumed = campaign(again).run()
    assert again.loaded == 1
    assert again.saved == 2
    for name, outcome in straight.attacks.items():
        np.testing.assert_array_equal(outcome.smallest, resumed.attacks[name].smallest)
        np.testing.assert_array_equal(outcome.confidence, resumed.attacks[name].confidence)


def test_larger_epsilons_are_not_tried_on_what_is_broken() -> None:
    """The passes of a run over four epsilons are fewer than those of four runs."""
    config = dataclasses.replace(QUICK, attacks=("pgd",), epsilons=(0.05, 0.1, 0.2, 0.4))
    together = campaign(FileJournal(Path("/nonexistent"), {}, resume=True), config)
    together = dataclasses.replace(together, journal=_Nothing())
    outcome = together.run().attacks["pgd"]
    apart = 0.0
    for epsilon in config.epsilons:
        single = dataclasses.replace(together, task=dataclasses.replace(together.task, epsilons=(epsilon,)))
        apart += single.run().attacks["pgd"].queries
    assert outcome.queries < apart


def test_a_full_disk_costs_the_journal_and_not_the_run() -> None:
    class Full(_Nothing):
        def save(self, key: str, arrays: Any) -> None:
            raise OSError(28, "No space left on device")

    config = dataclasses.replace(QUICK, attacks=("fgsm",))
    assert campaign(Full(), config).run().n == 20


class _Nothing:
    def load(self, key: str) -> None:
        return None

    def save(self, key: str, arrays: Any) -> None:
        pass


def test_memory_that_runs_out_halves_the_batch_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study(dataclasses.replace(QUICK, attacks=("fgsm",), views=NONE, checks=NONE))
    verdict = AttackedModel.verdict

    def limited(self: AttackedModel, images: Tensor) -> Tensor:
        if len(images) > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes")
        return verdict(self, images)

    monkeypatch.setattr(AttackedModel, "verdict", limited)
    report = study(dataclasses.replace(QUICK, attacks=("fgsm",), views=NONE, checks=NONE))
    assert any("Memory ran out with 8" in warning for warning in report.warnings)
    assert value(report, "robust_accuracy") == value(whole, "robust_accuracy")


def test_a_network_against_another_with_a_paired_test() -> None:
    from helpers.adversarial_networks import Wrapped

    class Worse(Wrapped):
        """The same network on blurred digits: less fragile, or more; not the same."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.avg_pool2d(x, 3, 1, 1))

    rival = model_of(Worse(), "rival")
    config = dataclasses.replace(QUICK, epsilons=(0.05, 0.1), views=("against",), checks=NONE)
    report = study(config, others=ComparisonModels(against=rival))
    section = report.sections[0]
    assert "McNemar" in section.findings[0]
    table = next(b for b in section.blocks if isinstance(b, Table))
    by_name = {column.name: i for i, column in enumerate(table.columns)}
    for row in table.rows:
        first, second = row[by_name["digits network"]], row[by_name["rival"]]
        only = row[by_name["Only first"]] - row[by_name["Only second"]]
        assert first - second == pytest.approx(only / row[by_name["n"]])
        assert row[by_name["p, Holm"]] >= row[by_name["p"]]


def test_transfer_gives_a_row_and_a_column_for_each_network() -> None:
    other = model_of(trained(epochs=6), "other")
    config = dataclasses.replace(QUICK, epsilons=(0.3,), attacks=("fgsm",), views=("transfer",), checks=NONE)
    report = study(config, others=ComparisonModels(transfer=(other,)))
    figure = next(b for b in report.sections[0].blocks if isinstance(b, Figure))
    assert len(figure.matrix) == len(figure.matrix[0]) == 2
    assert figure.matrix[0][0] > 0.8
    assert value(report, "transfer:digits network->other") == figure.matrix[0][1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attacks": ("cw",)}, "supports L2"),
        ({"attacks": ("nosuch",)}, "no attack 'nosuch'"),
        ({"attacks": ("worst",)}, "always reported"),
        ({"target": "eleven"}, "no class 'eleven'"),
        ({"views": ("nosuch",)}, "no view 'nosuch'"),
        ({"checks": ("nosuch",)}, "no check 'nosuch'"),
        ({"norm": "L7"}, "no norm 'L7'"),
        ({"images": (3, 99)}, "no image 99"),
        ({"images": 0}, "at least 1"),
    ],
)
def test_words_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        study(dataclasses.replace(QUICK, **change))


def test_a_network_that_answers_nan_is_refused() -> None:
    class Nan(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :10] * torch.nan

    with pytest.raises(CannotRunError, match="not finite"):
        study(model=model_of(Nan()))


def test_a_network_that_is_always_wrong_has_nothing_to_break() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = trained()

        def forward(self, x: Tensor) -> Tensor:
            return -self.network(x)

    report = study(model=model_of(Wrong()))
    assert value(report, "clean_accuracy") == 0.0
    assert value(report, "success_rate") is None
    reasons = {s.id: s.reason for s in report.sections if s.reason}
    assert set(reasons) == {"attention", "channels"}


def test_broken_images_are_skipped_and_named(tmp_path: Path) -> None:
    from probe.data.load import load_images

    images, labels = batch(n=12)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / str(int(label))
        folder.mkdir(exist_ok=True)
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(folder / f"{i}.png")
    (tmp_path / "0" / "broken.png").write_bytes(b"not a picture")
    folder_images = load_images(tmp_path)
    if folder_images.num_classes != 10:  # folders name fewer classes than the network has
        with pytest.raises(UsageError, match="classes"):
            study(images=folder_images)
        folder_images = folder_images.unlabelled()
    report = study(dataclasses.replace(QUICK, views=("attacks",), checks=NONE), folder_images)
    assert [one.name for one in report.data.skipped]
    assert report.status == "skipped inputs"


def test_sections_are_chosen_by_name() -> None:
    report = study(dataclasses.replace(QUICK, views=("classes", "attacks"), checks=("softmax-output",)))
    assert [s.id for s in report.sections] == ["attacks", "classes"]
    assert len(report.checks) == 1
