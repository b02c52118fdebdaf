"""Answers of cut copies: as if each had been run alone; re-estimated statistics leave the original alone."""

from __future__ import annotations

import pytest
import torch
from helpers import ablation_networks as nets
from torch import Tensor, nn

from probe.core.progress import SILENT
from probe.core.state import fingerprint
from probe.data.images import InputSpec
from probe.graph.edit.cut import cut, find_sites, prepare
from probe.graph.edit.structure import get_structure
from probe.models.loaded import LoadedModel, Provenance
from probe.models.loaded import prepare as prepared
from studies.ablation import evaluate
from studies.ablation.config import AblationConfig
from studies.ablation.evaluate import Answers, EvaluationBatch, Evaluator, answer_plain, recalibrate
from studies.ablation.lesion import EvaluationSet, lesion


def model_of(network: nn.Module) -> LoadedModel:
    return LoadedModel(
        name="net",
        module=prepared(network, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"), torch.channels_last),
        input=InputSpec((3, 16, 16), 1.0, "bilinear"),
        num_classes=5,
        class_names=None,
        domain="unknown",
        device=torch.device("cpu"),
        memory_format=torch.channels_last,
        provenance=Provenance("test", "random"),
        factory=nets.Residual,
        macs=10**6,
    )


def bench_of(network: nn.Module) -> EvaluationSet:
    model = model_of(network)
    images = nets.image(24, seed=3)
    with torch.no_grad():
        labels = model.module(images).argmax(1)
    batches = tuple(EvaluationBatch(x, y) for x, y in zip(images.split(7), labels.split(7), strict=True))
    subject = prepare(model.network, model.module.normalise(images[:2]))
    return EvaluationSet(model, subject, batches, tuple(model.module.normalise(images).split(12)), SILENT)


def alone(bench: EvaluationSet, network: nn.Module) -> Answers:
    with torch.no_grad():
        parts = [Answers.of(network(bench.model.module.normalise(b.images)), b.labels) for b in bench.batches]
    return Answers.join(parts)


@pytest.mark.parametrize("kept", [1 << 30, 1])
def test_answers_are_those_of_every_copy_run_alone(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "KEPT", kept)
    bench = bench_of(nets.random_statistics(nets.Residual()))
    before = fingerprint(bench.model.module)
    sites = [s for w in ("shortcut", "block") for s in find_sites(bench.subject, get_structure(w))]
    cuts = [cut(bench.subject, [site]) for site in sites]
    evaluator = Evaluator(bench.model, bench.subject, cuts)
    assert evaluator.shared is not None
    all_answers = evaluator.answer(bench.batches)
    for answers, network in zip(all_answers, [bench.model.network, *cuts], strict=True):
        expected = alone(bench, network)
        assert answers.predictions.tolist() == expected.predictions.tolist()
        torch.testing.assert_close(
            torch.tensor(answers.losses), torch.tensor(expected.losses), rtol=0, atol=1e-4
        )
    assert fingerprint(bench.model.module) == before


class Tied(nn.Module):
    """Two classes differ by one unit in the last place, which folding the norm would change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))
        return torch.cat([logits[:, :1], logits[:, :1] * (1 + 1e-7), logits[:, :1] - 1e-7], 1)


def test_close_answers_are_those_of_the_plain_network() -> None:
    bench = bench_of(nets.random_statistics(Tied()))
    cuts = [cut(bench.subject, [site]) for site in find_sites(bench.subject, get_structure("relu"))]
    all_answers = Evaluator(bench.model, bench.subject, cuts).answer(bench.batches)
    for answers, network in zip(all_answers, [bench.subject.network, *cuts], strict=True):
        assert answers.predictions.tolist() == alone(bench, network).predictions.tolist()


def test_recalibration_changes_a_copy_alone_and_only_its_statistics() -> None:
    network = nets.random_statistics(nets.Residual())
    bench = bench_of(network)
    before = fingerprint(bench.model.module)
    made = recalibrate(bench.subject.network, bench.calibration)
    assert fingerprint(bench.model.module) == before
    images = torch.cat(list(bench.calibration))
    first = network.a.conv1(network.stem(images))
    statistics = dict(made.named_buffers())
    means = [first[:12].mean((0, 2, 3)), first[12:].mean((0, 2, 3))]
    torch.testing.assert_close(statistics["a.bn1.running_mean"], sum(means) / 2, rtol=1e-4, atol=1e-5)
    for name, parameter in made.named_parameters():
        assert torch.equal(parameter, network.get_parameter(name)), name


def test_a_lesion_study_compares_each_cut_with_the_intact_network() -> None:
    bench = bench_of(nets.random_statistics(nets.Residual()))
    lesions = lesion(bench, get_structure("shortcut"), AblationConfig(draws=2, max_sites=3))
    assert lesions.intact.n_correct == bench.n
    assert len(lesions.plan.single) == 3
    for site in lesions.plan.single:
        comparison = lesions.alone(site)
        assert comparison is not None
        expected = alone(bench, cut(bench.subject, [lesions.sites[site]]))
        assert comparison.n_correct == int((expected.predictions == bench.labels).sum())
        assert comparison.n_correct == bench.n - comparison.lost
        assert lesions.corrected[site] >= comparison.p
    again = lesions.recalibrated[lesions.plan.everything]
    plain = recalibrate(cut(bench.subject, list(lesions.sites)), bench.calibration)
    answers = answer_plain(bench.model, plain, bench.batches)
    assert again.n_correct == int((answers.predictions == bench.labels).sum())
