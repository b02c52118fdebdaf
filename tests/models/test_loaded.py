from __future__ import annotations

import random
from copy import deepcopy

import numpy as np
import pytest
import timm
import torch
from helpers.weight_files import Net
from torch import nn
from torchvision import models

from probe.core.errors import UsageError
from probe.core.seeds import scoped
from probe.core.state import fingerprint
from probe.data.images import InputSpec
from probe.models.loaded import LoadedModel, Normalise, Provenance, prepare
from probe.models.measure import choose_memory_format, measure

CPU = torch.device("cpu")


def loaded(memory_format: torch.memory_format = torch.contiguous_format) -> LoadedModel:
    return LoadedModel(
        name="net",
        module=prepare(Net(), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), CPU, memory_format),
        input=InputSpec((3, 8, 8)),
        num_classes=3,
        class_names=("a", "b", "c"),
        domain="unknown",
        device=CPU,
        memory_format=memory_format,
        provenance=Provenance(
            "here:net", "made up", file="w.pth", sha256="00", licence="MIT", notes=("one",)
        ),
        factory=Net,
        macs=5,
    )


def pixels(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_normalisation_is_inside() -> None:
    model, x = loaded(), pixels(4, 3, 8, 8)
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.6])
    wanted = (x.double().numpy() - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(model.module.normalise(x).numpy(), wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(model.module(x), model.network(torch.from_numpy(wanted).float()))


def test_normalisation_is_no_part_of_the_state_dict() -> None:
    assert set(loaded().network.state_dict()) == set(Net().state_dict())
    assert not Normalise((0.0,), (1.0,)).state_dict()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_logits_do_not_depend_on_batches(batch_size: int) -> None:
    model, x = loaded(), pixels(5, 3, 8, 8)
    with torch.no_grad():
        wanted = model.module(x)
    found = model.logits(x, batch_size)
    torch.testing.assert_close(found, wanted)
    assert not found.is_inference()
    assert not found.requires_grad


def test_logits_of_nothing() -> None:
    assert loaded().logits(torch.empty(0, 3, 8, 8)).shape == (0, 3)


def test_gradients_reach_the_pixels_and_not_the_parameters() -> None:
    model, x = loaded(), pixels(2, 3, 8, 8).requires_grad_()
    model.module(x).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    assert all(
        parameter.grad is None and not parameter.requires_grad for parameter in model.module.parameters()
    )
    assert not any(sub.training for sub in model.module.modules())


def test_fresh_weights() -> None:
    model = loaded(torch.channels_last)
    before = fingerprint(model.module)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, again, other = model.fresh(7), model.fresh(7), model.fresh(8)
    assert fingerprint(model.module) == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert fingerprint(first.module) == fingerprint(again.module)
    assert not torch.equal(first.network.fc.weight, other.network.fc.weight)
    assert not torch.equal(first.network.fc.weight, model.network.fc.weight)
    assert first.network.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for name in ("name", "input", "num_classes", "class_names", "domain", "device", "memory_format", "macs"):
        assert getattr(first, name) == getattr(model, name)
    assert torch.equal(first.module.normalise.mean, model.module.normalise.mean)
    assert torch.equal(first.module.normalise.std, model.module.normalise.std)
    assert first.provenance.source == "here:net"
    assert first.provenance.sha256 is None
    assert first.provenance.file == ""
    assert "random" in first.provenance.weights
    assert "seed 7" in first.provenance.notes[0]
    assert not any(sub.training for sub in first.module.modules())


def test_a_class_count_that_disagrees() -> None:
    model = loaded()
    model.check_classes(3, "pets")
    model.check_classes(("x", "y", "z"), "pets")
    for classes in (10, [str(i) for i in range(10)]):
        with pytest.raises(UsageError) as caught:
            model.check_classes(classes, "digits")
        message = str(caught.value)
        for word in ("net", "3 classes", "digits", "10"):
            assert word in message


def test_info() -> None:
    info = loaded().info()
    assert info.parameters == 4 * 3 * 9 + 8 + 4 * 3 + 3
    assert (info.name, info.source, info.weights, info.macs) == ("net", "here:net", "made up", 5)
    assert (info.sha256, info.licence, info.file, info.notes) == ("00", "MIT", "w.pth", ("one",))
    assert (info.input_size, info.num_classes) == ((3, 8, 8), 3)


def test_moving_to_a_device() -> None:
    here = loaded()
    moved = here.to("meta")
    assert (here.device, here.module.normalise.mean.device) == (torch.device("cpu"), torch.device("cpu"))
    assert moved.device == torch.device("meta")
    assert moved.module(torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 3)
    assert moved.module.normalise.mean.device.type == "meta"


FAMILIES = {
    "resnet18": lambda: models.resnet18(),
    "vgg11": lambda: models.vgg11(),
    "densenet121": lambda: models.densenet121(),
    "mobilenet_v3_small": lambda: models.mobilenet_v3_small(),
    "lite0": lambda: timm.create_model("tf_efficientnet_lite0"),
    "convnext_tiny": lambda: models.convnext_tiny(),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_chosen_layout_gives_the_same_logits(name: str) -> None:
    """Against float64 in the plain layout. The networks are as initialised: there rounding is not amplified."""
    with scoped(0, name):
        network: nn.Module = FAMILIES[name]().eval()
    facts = measure(network, (3, 96, 96), name)
    layout = choose_memory_format(facts, CPU)
    assert layout == (torch.contiguous_format if name == "convnext_tiny" else torch.channels_last)
    x = pixels(2, 3, 96, 96)
    with torch.no_grad():
        plain = network(x)
        exact = deepcopy(network).double()(x.double())
    model = LoadedModel(
        name=name,
        module=prepare(network, (0.0,) * 3, (1.0,) * 3, CPU, layout),
        input=InputSpec((3, 96, 96)),
        num_classes=1000,
        class_names=None,
        domain="unknown",
        device=CPU,
        memory_format=layout,
        provenance=Provenance("x", "x"),
        factory=Net,
    )
    for wanted in (plain.double(), exact):
        assert float((model.logits(x) - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
