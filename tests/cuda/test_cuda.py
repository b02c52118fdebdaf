"""The studies on a CUDA card: the CPU's results within tolerances, inside the ball, once for each seed, and with little memory.

Run with ``make test-cuda`` on a machine with a card. The tests of the devices that need none are in tests/test_devices.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.attacks.norms import NORMS
from probe.core.document import Report
from probe.core.precision import exact_float32
from probe.models.loaded import LoadedModel
from studies.adversarial.microbatch import MicroBatcher

pytestmark = pytest.mark.cuda

IMAGES = 100
WITHIN = 2
"""Images of a hundred that may come out differently: those at the boundary of two classes."""


@pytest.fixture(scope="module")
def models() -> tuple[LoadedModel, LoadedModel]:
    """The same trained network on the CPU and on the card."""
    return probe.load_model("zoo:resnet20", device="cpu"), probe.load_model("zoo:resnet20", device="cuda")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Leave the process a part of the card's memory that an activation of many images does not fit into."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5e9 / total))
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def attacked(model: LoadedModel, **how: object) -> Report:
    images = probe.images("digits", n=IMAGES)
    return probe.adversarial(model, images, eps="0.05,0.1,0.2", show=2, **how)  # type: ignore[arg-type]


def counts(report: Report) -> dict[str, float]:
    """The proportions in a report, in images."""
    return {
        result.name: float(result.value) * IMAGES
        for result in report.all_results
        if isinstance(result.value, float) and "accuracy" in result.name
    }


def test_attacks_find_what_they_find_on_the_cpu(models: tuple[LoadedModel, LoadedModel]) -> None:
    here, there = (counts(attacked(model)) for model in models)
    assert here.keys() == there.keys()
    assert len(here) > 4
    for name, value in here.items():
        assert there[name] == pytest.approx(value, abs=WITHIN), name


def test_adversarial_images_lie_in_the_ball(models: tuple[LoadedModel, LoadedModel]) -> None:
    report = attacked(models[1], checks=[], save_images="npz")
    images = probe.images("digits", n=IMAGES)
    with np.load(io.BytesIO(report.files["images/adversarial.npz"])) as saved:
        moved, places = torch.from_numpy(saved["images"]), saved["indices"].tolist()
    originals = torch.stack([images.get(place, models[0].input) for place in places])
    assert len(places) > 5
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert (moved - originals).abs().max() <= 0.2 + 1e-6
    # The CPU judges them as the card did, but for those at the boundary.
    labels = torch.tensor([images.label(place) for place in places])
    assert int((models[0].logits(moved).argmax(1) == labels).sum()) <= WITHIN


def test_one_seed_gives_one_result(models: tuple[LoadedModel, LoadedModel]) -> None:
    first, again = (counts(attacked(models[1], checks=[])) for _ in range(2))
    assert first == again


def test_filters_see_what_they_see_on_the_cpu(models: tuple[LoadedModel, LoadedModel]) -> None:
    images = probe.images("digits", n=IMAGES)
    here, there = (probe.filters(model, images, steps=16) for model in models)
    assert not [section.id for section in there.sections if section.failed]
    assert counts(there) == pytest.approx(counts(here), abs=WITHIN)


def test_lesions_hurt_as_on_the_cpu(models: tuple[LoadedModel, LoadedModel]) -> None:
    images = probe.images("digits", n=IMAGES)
    here, there = (probe.ablate(model, images, remove="shortcut", mode="lesion") for model in models)
    assert counts(there) == pytest.approx(counts(here), abs=WITHIN)


def test_training_learns_on_the_card() -> None:
    report = probe.ablate(
        probe.load_model("zoo:lenet", device="cuda"),
        "digits",
        remove="relu",
        mode="retrain",
        seeds=2,
        epochs=2,
    )
    assert report.status == "done"


def test_verdicts_are_float32() -> None:
    """TF32 has 10 bits of mantissa: its errors are some hundred times those of float32."""
    layer = nn.Conv2d(64, 64, 3).cuda()
    x = torch.rand(4, 64, 16, 16, device="cuda")
    with torch.no_grad():
        reference = nn.functional.conv2d(x.double(), layer.weight.double(), layer.bias.double())  # type: ignore[union-attr]
        with exact_float32():
            found = layer(x)
    assert float((found - reference).abs().max() / reference.abs().max()) < 1e-5


def test_out_of_memory_halves_the_batch(little_memory: None) -> None:
    memory = MicroBatcher(64)
    rows = torch.arange(64, device="cuda")

    def work(part: torch.Tensor) -> list[torch.Tensor]:
        # 100 MB an image: 64 of them do not fit into 1.5 GB, 8 do.
        return [torch.ones(len(part), 25_000_000, device="cuda").sum(1)]

    (sums,) = memory.map(rows, work)
    assert torch.equal(sums.cpu(), torch.full((64,), 25e6))
    assert memory.limit <= 8
    assert memory.messages


def test_every_norm_starts_and_projects_on_the_card() -> None:
    images = torch.rand(4, 3, 8, 8, device="cuda")
    for norm in NORMS.values():
        draws = torch.Generator().manual_seed(0)
        moved = norm.project(images, norm.start(images, 1.0, draws), 1.0)
        assert moved.device == images.device
        assert (norm.size(moved - images) <= 1.0 + 1e-4).all()
