"""The studies on a device other than the CPU: every tensor is where it must be, and the results are the CPU's."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from helpers import ablation_networks as nets
from helpers.adversarial_runs import image_set, model_of
from helpers.filters_models import loaded, pictures
from helpers.pretended_gpu import pretended_gpu

from probe.core.document import Report
from probe.core.precision import exact_float32
from probe.models.loaded import LoadedModel
from studies.ablation import AblationConfig
from studies.ablation import run as ablate
from studies.adversarial import AdversarialConfig
from studies.adversarial import run as attack
from studies.filters import FiltersConfig
from studies.filters import run as look


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _filters() -> tuple[LoadedModel, Callable[[LoadedModel], Report]]:
    config = FiltersConfig(views=("all",), steps=4)
    return loaded(), lambda model: look(model, pictures(14, labels=[i % 3 for i in range(14)]), config)


def _adversarial() -> tuple[LoadedModel, Callable[[LoadedModel], Report]]:
    config = AdversarialConfig(epsilons=(0.05, 0.1), steps=5, batch_size=8, bf16=False)
    return model_of(), lambda model: attack(model, image_set(16), config)


def _ablation() -> tuple[LoadedModel, Callable[[LoadedModel], Report]]:
    model = loaded(nets.random_statistics(nets.Residual()), classes=5)
    config = AblationConfig(remove=("shortcut", "relu"), mode="lesion", draws=2)
    return model, lambda model: ablate(
        model, pictures(14, labels=[i % 5 for i in range(14)], classes=5), config
    )


@pytest.mark.parametrize("case", [_filters, _adversarial, _ablation])
def test_a_study_gives_on_another_device_what_it_gives_here(
    case: Callable[[], tuple[LoadedModel, Callable[[LoadedModel], Report]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On the CPU pictures may be made in bfloat16.
    monkeypatch.setattr("studies.filters.optima.half_helps", lambda *_: False)
    model, study = case()
    here = study(model)
    with pretended_gpu() as gpu:
        module = copy.deepcopy(model.module).to(gpu)
        there = study(dataclasses.replace(model, module=module, device=gpu))
    assert [(s.id, s.failed, bool(s.reason)) for s in there.sections] == [
        (s.id, s.failed, bool(s.reason)) for s in here.sections
    ]
    assert not [check.detail for check in there.all_checks if "could not be made" in check.detail]
    for mine, theirs in zip(here.all_results, there.all_results, strict=True):
        assert mine.name == theirs.name
        if mine.name.endswith(".seconds"):
            continue
        if isinstance(mine.value, float):
            assert theirs.value == pytest.approx(mine.value, rel=1e-3, abs=1e-5, nan_ok=True), mine.name
        else:
            assert theirs.value == mine.value, mine.name


def test_verdicts_on_cuda_are_not_in_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the block neither convolutions nor products may use it; afterwards all is as it was."""
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = True
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        with exact_float32():
            assert [place.allow_tf32 for place in places] == [False, False]
        assert [place.allow_tf32 for place in places] == [True, True]
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed
