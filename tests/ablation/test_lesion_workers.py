"""Lesions measured by several processes and on a cluster: the numbers of one process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers import ablation_networks as nets
from torch import nn

from probe.core.errors import CannotRunError
from probe.core.place import Place
from probe.core.progress import SILENT
from probe.core.state import fingerprint
from probe.data.spec import InputSpec
from probe.graph.edit.structure import get_structure
from probe.models.loaded import LoadedModel, Provenance, prepare
from studies.ablation.config import AblationConfig
from studies.ablation.evaluate import EvaluationBatch, subject_of
from studies.ablation.lesion import EvaluationSet, LesionResult, lesion


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def no_factory() -> nn.Module:
    raise CannotRunError("no fresh weights")


def bench_of(network: nn.Module, place: Place) -> EvaluationSet:
    model = LoadedModel(
        name="net",
        module=prepare(network, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"), torch.channels_last),
        input=InputSpec((3, 16, 16), 1.0, "bilinear"),
        num_classes=5,
        class_names=None,
        domain="unknown",
        device=torch.device("cpu"),
        memory_format=torch.channels_last,
        provenance=Provenance("test", "random"),
        factory=no_factory,
        macs=10**6,
    )
    images = nets.image(30, seed=3)
    labels = torch.arange(30) % 5
    batches = tuple(EvaluationBatch(x, y) for x, y in zip(images.split(7), labels.split(7), strict=True))
    calibration = tuple(model.module.normalise(images).split(12))
    return EvaluationSet(model, subject_of(model), batches, calibration, SILENT, place=place)


def told(result: LesionResult) -> str:
    """Everything that is measured, as text."""
    answers = {tuple(sorted(k)): v.predictions.tolist() for k, v in result.answers.items()}
    losses = {tuple(sorted(k)): v.losses.tolist() for k, v in result.answers.items()}
    return repr((result.sets, result.recalibrated, answers, losses, result.corrected, result.costs))


@pytest.mark.parametrize(
    ("word", "places"),
    [
        ("shortcut", (Place(2), Place(1, "local:2"))),
        pytest.param("block", (Place(2),), marks=pytest.mark.slow),
    ],
)
def test_two_processes_and_a_cluster_measure_what_one_process_measures(
    word: str, places: tuple[Place, ...]
) -> None:
    config, structure = AblationConfig(draws=2), get_structure(word)
    network = nets.random_statistics(nets.Residual())
    here = lesion(bench_of(network, Place()), structure, config)
    before = fingerprint(network)
    assert len(here.sets) > 2
    assert len(here.recalibrated) > 2
    assert len(np.unique(here.answers[frozenset()].losses)) > 20
    for place in places:
        assert told(lesion(bench_of(network, place), structure, config)) == told(here)
    assert fingerprint(network) == before
