"""Runs that aim at a class: nothing is called right, or accuracy, that is only not at the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.adversarial_networks import Constant, Wrapped, batch
from helpers.adversarial_runs import NONE, QUICK, image_set, model_of, study, value
from torch import Tensor, nn

from probe.attacks.norms import NORMS
from probe.core.blocks import Figure, Table
from probe.core.document import Report
from probe.core.errors import CannotRunError
from probe.core.journal import NOTHING, FileJournal, Journal
from probe.core.progress import SILENT
from studies.adversarial import ComparisonModels
from studies.adversarial.attack_run import AttackRun, attacked_model, make_task
from studies.adversarial.microbatch import MicroBatcher
from studies.adversarial.study import attacks_for
from studies.adversarial.targets import Target

LABELS = batch(n=20)[1]
THREES = (LABELS == 3).nonzero()[:, 0].tolist()
OTHERS = (LABELS != 3).nonzero()[:, 0].tolist()
TARGETED = dataclasses.replace(QUICK, epsilons=(0.3,), target="3", steps=20, checks=NONE)


class Confused(Wrapped):
    """Takes ones for twos, and twos for ones."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, [0, 2, 1, *range(3, 10)]]


class Always(nn.Module):
    """Answers one class, whatever it sees, as far as a small perturbation can tell."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return Constant()(x).roll(self.answer, 1)


def campaign(order: list[int], journal: Journal = NOTHING) -> AttackRun:
    model, images = model_of(), image_set(order=order)
    task = make_task(QUICK.epsilons, NORMS["Linf"], (1, 8, 8), 0)
    attacks = attacks_for(dataclasses.replace(QUICK, attacks=("pgd", "fgsm"), target="3"), NORMS["Linf"])
    attacked = attacked_model(model, False)
    return AttackRun(
        model, attacked, images, attacks, task, Target("class", 3), 2, MicroBatcher(2), journal, SILENT
    )


def texts(value: Any) -> Iterator[str]:
    """Every string in a report."""
    if isinstance(value, str):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from texts(getattr(value, field.name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from texts(item)


def rows_of(report: Report, section: str) -> list[dict[str, Any]]:
    table = next(b for s in report.sections if s.id == section for b in s.blocks if isinstance(b, Table))
    return [dict(zip([c.name for c in table.columns], row, strict=True)) for row in table.rows]


def test_a_batch_of_the_class_aimed_at_is_passed_over(tmp_path: Path) -> None:
    assert len(THREES) >= 2
    order = [*THREES[:2], *OTHERS[:3]]
    kept = FileJournal(tmp_path, {}, resume=False)
    results = campaign(order, kept).run()
    assert results.clean.index.tolist() == [2, 3, 4]
    alone = campaign(OTHERS[:3]).run()
    assert results.n == len(results.worst.smallest) == alone.n == 3
    resumed = FileJournal(tmp_path, {}, resume=True)
    again = campaign(order, resumed).run()
    assert resumed.loaded == kept.saved == 3
    np.testing.assert_array_equal(again.worst.smallest, results.worst.smallest)


def test_nothing_but_the_class_aimed_at_cannot_run() -> None:
    with pytest.raises(CannotRunError, match="No image is left to attack"):
        study(TARGETED, image_set(order=THREES))


@pytest.fixture(scope="module")
def confused() -> Report:
    others = ComparisonModels(transfer=(model_of(name="other"),), against=model_of(name="rival"))
    return study(TARGETED, model=model_of(Confused()), others=others)


def test_clean_accuracy_is_that_of_the_labels(confused: Report) -> None:
    images, labels = batch(n=20)
    with torch.no_grad():
        answers = Confused()((images * 255).round() / 255).argmax(1)
    right = (answers == labels)[OTHERS]
    assert 0 < right.sum() < len(OTHERS)
    assert value(confused, "clean_accuracy") == pytest.approx(float(right.double().mean()))
    by_class = {row["Class"]: row["Clean"] for row in rows_of(confused, "classes")}
    assert by_class["1"] == 0
    assert by_class["0"] == 1
    figures = [
        b for s in confused.sections if s.id == "corruption" for b in s.blocks if isinstance(b, Figure)
    ]
    starts = [line.y[0] for figure in figures for line in figure.series]
    assert starts == pytest.approx([float(right.double().mean())] * 6)


def test_what_resists_is_not_called_accurate_or_right(confused: Report) -> None:
    assert not [s.reason for s in confused.sections if s.reason]
    names = {result.name for result in confused.all_results}
    assert "resistance" in names
    assert not [name for name in names if "robust_accuracy" in name]
    report_texts = list(texts((confused.headline, confused.sections)))
    for false in ("robust accuracy", "Robust accuracy", "remain correct", "correctly classified"):
        assert not [text for text in report_texts if false in text]
    assert any("moved to the target class" in line for line in confused.headline)
    against = next(line for line in confused.headline if "McNemar" in line)
    assert "resists the targeted attack" in against


def test_the_attack_is_no_line_among_accuracies_under_corruption(confused: Report) -> None:
    section = next(s for s in confused.sections if s.id == "corruption")
    lines = [line.label for b in section.blocks if isinstance(b, Figure) for line in b.series]
    assert len(lines) == 6
    assert not [name for name in lines if "attack" in name]
    assert "in the target class" in section.findings[0]


def test_transfer_counts_what_is_moved_to_the_target() -> None:
    rivals = (model_of(Always(0), "nothing moves it"), model_of(Always(3), "already there"))
    config = dataclasses.replace(TARGETED, views=("transfer",))
    report = study(config, others=ComparisonModels(transfer=rivals))
    cells = {
        (row["Made against"], row["Tested on"]): (row["Moved"], row["of"])
        for row in rows_of(report, "transfer")
    }
    moved, n = cells["digits network", "digits network"]
    assert n == len(OTHERS)
    assert moved > n / 2
    assert cells["digits network", "nothing moves it"] == (0, n)
    assert cells["digits network", "already there"] == (0, 0)


def test_unlabelled_runs_speak_of_answers() -> None:
    config = dataclasses.replace(QUICK, checks=NONE)
    others = ComparisonModels(transfer=(model_of(name="other"),), against=model_of(name="rival"))
    report = study(config, image_set(labelled=False), others=others)
    report_texts = list(texts((report.headline, report.sections)))
    for false in ("robust accuracy", "remain correct", "correctly", "classifies"):
        assert not [text for text in report_texts if false in text.lower()]
    assert any("keeps its own prediction for" in line for line in report.headline)
    assert value(report, "clean_agreement") == 1
    assert not [r.name for r in report.all_results if "accuracy" in r.name]


def test_pictures_of_what_was_not_attacked_do_not_apply() -> None:
    config = dataclasses.replace(
        TARGETED, images=tuple(THREES[:2]), views=("pictures", "attention", "attacks")
    )
    report = study(config)
    reasons = {s.id: s.reason for s in report.sections}
    assert not reasons["attacks"]
    for name in ("pictures", "attention"):
        assert "None of the requested images was attacked" in reasons[name]


def test_a_targeted_run_can_be_called_reliable() -> None:
    """Guessing is not defined for targets, and no attack of the run uses the DLR loss: both checks fall away by definition."""
    report = study(dataclasses.replace(TARGETED, attacks=("pgd",), views=("curve",), checks=None))
    absent = {check.name for check in report.checks if check.status == "not applicable"}
    assert absent == {"Unbounded", "Too few classes"}
    assert report.verdict.word.startswith("Reliable")
    assert report.extra["verdict"]["reliable"] is True
