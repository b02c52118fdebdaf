"""What every source of models and every zoo network promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from probe.core.errors import ProbeError, UsageError
from probe.core.state import fingerprint
from probe.data.load import load_images
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from probe.models.source import SOURCES, ZOO, Access, ModelRow

NET = """
from torch import nn
def net(num_classes=6):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, num_classes))
"""

# A network of each source that is quick to build; None: nothing can be loaded without a network connection.
EXAMPLES: dict[str, str | None] = {
    "zoo": "zoo:lenet",
    "embedded": "embedded:efficientnet_lite0",
    "torchvision": "torchvision:squeezenet1_1",
    "timm": "timm:lcnet_050",
    "hf-hub": None,
    "file": "net.py:net",
}
LOADABLE = [name for name in SOURCES.names() if EXAMPLES[name] is not None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)


def check(model: LoadedModel) -> None:
    """The promises of LoadedModel."""
    assert isinstance(model.module, nn.Module)
    assert not any(sub.training for sub in model.module.modules())
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert model.class_names is None or len(model.class_names) == model.num_classes
    assert model.macs is not None
    assert model.macs > 0
    x = torch.rand(3, *model.input.size, generator=torch.Generator().manual_seed(0))
    logits = model.logits(x, 2)
    assert logits.shape == (3, model.num_classes)
    assert logits.dtype == torch.float32
    assert bool(logits.isfinite().all())
    with torch.no_grad():
        plain = model.module.to(memory_format=torch.contiguous_format)(x)  # type: ignore[call-overload]
    assert float((plain - logits).abs().max()) <= 1e-5 * float(plain.abs().max())
    info = model.info()
    assert info.source
    assert info.weights
    assert info.parameters == sum(parameter.numel() for parameter in model.network.parameters())
    assert info.input_size == model.input.size


def test_every_source_has_an_example() -> None:
    assert set(EXAMPLES) == set(SOURCES.names())
    ranks = [SOURCES.get(name)().rank for name in SOURCES]
    given = [rank for rank in ranks if rank is not None]
    assert len(set(given)) == len(given)


@pytest.mark.parametrize("source", LOADABLE)
def test_random_weights(source: str) -> None:
    name = str(EXAMPLES[source])
    one = load_model(name, weights="none", num_classes=7, device="cpu", offline=True)
    again = load_model(name, weights="none", num_classes=7, device="cpu", offline=True)
    assert one.num_classes == 7
    assert fingerprint(one.network) == fingerprint(again.network)
    assert "random" in one.provenance.weights
    assert any("random" in note for note in one.provenance.notes)
    assert one.provenance.sha256 is None
    check(one)


@pytest.mark.parametrize("source", LOADABLE)
def test_fresh_weights(source: str) -> None:
    model = load_model(str(EXAMPLES[source]), weights="none", num_classes=5, device="cpu", offline=True)
    before = torch.get_rng_state()
    first, again, other = model.fresh(0), model.fresh(0), model.fresh(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint(first.module) == fingerprint(again.module)
    assert fingerprint(first.module) != fingerprint(other.module)
    assert list(first.network.state_dict()) == list(model.network.state_dict())
    assert (first.input, first.num_classes, first.memory_format) == (model.input, 5, model.memory_format)
    check(first)


@pytest.mark.parametrize("source", SOURCES.names())
def test_listing(source: str) -> None:
    instance = SOURCES.get(source)()
    rows = list(instance.rows())
    assert all(
        isinstance(row, ModelRow) and row.origin and set(row.present) <= set(row.weights) for row in rows
    )
    assert [row.name for row in rows] == list(instance.names())
    for name in list(instance.names())[:: max(1, len(rows) // 5)]:
        assert instance.knows(name)
        architecture = instance.find(name, {}, Access(offline=True))
        published = [weights.name for weights in architecture.published]
        assert published == [
            name for name in rows[[r.name for r in rows].index(name)].weights if name in published
        ]


@pytest.mark.parametrize("source", SOURCES.names())
def test_an_unknown_name_is_a_usage_error(source: str) -> None:
    name = "nothing.py:net" if source == "file" else f"{source}:no_such_network_x"
    with pytest.raises(UsageError) as caught:
        load_model(name, weights="none", offline=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", SOURCES.names())
def test_an_option_that_it_does_not_take_is_a_probe_error(source: str) -> None:
    name = EXAMPLES[source] or "hf-hub:a/b"
    with pytest.raises(ProbeError) as caught:
        load_model(f"{name}?no_such_option_x=1", weights="none", offline=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ZOO.names())
def test_zoo_networks(name: str) -> None:
    entry = ZOO.entries[name]
    assert entry.summary
    module = __import__(entry.module, fromlist=["__doc__"])
    assert any(year in str(module.__doc__) for year in map(str, range(1980, 2030))), (
        "the docstring names no paper"
    )
    model = load_model(f"zoo:{name}", weights="none", num_classes=4, device="cpu", offline=True)
    assert model.num_classes == 4
    check(model)
    images = load_images("digits", n=4)
    batch = next(iter(images.batches(model.input, 4)))
    assert model.logits(batch.images).shape == (4, 4)
    deeper = model.fresh(3).module.train().requires_grad_(True)
    deeper(batch.images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in deeper.parameters())
