"""torchvision's networks, against torchvision's own way of loading and normalising."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.loopback_server import Server, sends
from helpers.weight_files import random_state
from torch import Tensor, nn
from torchvision import models
from torchvision.models._api import WeightsEnum

from probe.core.errors import CannotRunError, UsageError
from probe.models.load import load_model
from probe.models.sources import torchvision as source
from probe.models.weights.checkpoint import CheckpointError
from probe.models.weights.fetch import torch_home

BUILD = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}


def publish(monkeypatch: pytest.MonkeyPatch, name: str, file: Path, url: str, member: Any = None) -> Any:
    """Let torchvision's weights of a network be another file, named by its hash; returns the real member."""
    member = member or models.get_model_weights(name).DEFAULT
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    stand_in = SimpleNamespace(
        name=member.name, url=f"{url}/{name}-{digest}.pth", transforms=member.transforms, meta=member.meta
    )
    monkeypatch.setattr(source, "_weights", lambda asked: [stand_in] if asked == name else [])
    return member, stand_in.url


def put_into_torch_home(file: Path, url: str) -> Path:
    target = torch_home() / url.rpartition("/")[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.read_bytes())
    return target


def published_state(name: str, member: Any) -> dict[str, Tensor]:
    """Random weights with the keys of the published file."""
    options: dict[str, Any] = {"aux_logits": True, "init_weights": False} if name in BUILD else {}
    if name.startswith("vit"):
        options["image_size"] = member.meta["min_size"][0]
    state = random_state(models.get_model(name, num_classes=len(member.meta["categories"]), **options))
    if name.startswith("densenet"):
        # The published files were written before the layers were renamed, and before there were counters.
        state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
        pattern = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))([12]\..*)$")
        state = {pattern.sub(r"\1.\2", key): value for key, value in state.items()}
        assert any(".norm.1." in key for key in state)
    return state


def torchvisions_own(
    monkeypatch: pytest.MonkeyPatch, name: str, member: Any, state: dict[str, Tensor]
) -> nn.Module:
    """The network as torchvision builds and loads it for these weights."""
    network = models.get_model(name, **({"init_weights": False} if name in BUILD else {}))
    ordered = dict(state)

    def get_state_dict(self: WeightsEnum, *_: Any, **__: Any) -> Any:
        result = OrderedDict(ordered)
        if name.startswith("mnasnet"):
            result._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
        return result

    with monkeypatch.context() as patch:
        patch.setattr(WeightsEnum, "get_state_dict", get_state_dict)
        return models.get_model(name, weights=member).eval()


@pytest.mark.parametrize(
    "name", ["googlenet", "densenet121", "mnasnet0_5", "squeezenet1_1", "shufflenet_v2_x0_5"]
)
def test_the_same_logits_as_torchvision(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = models.get_model_weights(name).DEFAULT
    state = published_state(name, member)
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    own = torchvisions_own(monkeypatch, name, member, state)
    _, url = publish(monkeypatch, name, file, "https://example.invalid")
    put_into_torch_home(file, url)
    model = load_model(name, offline=True, device="cpu")
    # Pixels are drawn as a picture's so that torchvision's transform leaves them in place.
    generator = torch.Generator().manual_seed(0)
    size = model.input.size[1]
    pixels = torch.rand(2, 3, size, size, generator=generator)
    transform = member.transforms()
    mean, std = torch.tensor(transform.mean), torch.tensor(transform.std)
    with torch.no_grad():
        wanted = own((pixels - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(model.logits(pixels), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    assert model.class_names == tuple(member.meta["categories"])
    assert model.domain == "imagenet"
    assert model.provenance.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert model.provenance.url == url


@pytest.mark.parametrize(
    "name", ["resnet18", "efficientnet_b2", "inception_v3", "vit_b_16", "regnet_y_400mf"]
)
def test_preprocessing_is_that_of_the_weights(name: str) -> None:
    from torchvision.transforms.functional import InterpolationMode

    for published in source.Torchvision().find(name, {}, source.Access()).published:
        transform = models.get_model_weights(name)[published.name].transforms()
        spec = published.framing.input
        assert spec.size[1:] == tuple(transform.crop_size * 2)
        assert round(spec.size[1] / spec.crop) == transform.resize_size[0]
        assert InterpolationMode(spec.interpolation) == transform.interpolation
        assert published.framing.mean == tuple(transform.mean)
        assert published.framing.std == tuple(transform.std)


def test_every_network_can_be_found() -> None:
    for name in source.Torchvision().names():
        architecture = source.Torchvision().find(name, {}, source.Access())
        default = models.get_model_weights(name).DEFAULT
        assert architecture.published[0].name == default.name
        assert len(architecture.published) == len(models.get_model_weights(name))


def test_a_download_is_made_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT
    file = tmp_path / "weights.pth"
    torch.save(published_state("shufflenet_v2_x0_5", member), file)
    _, url = publish(monkeypatch, "shufflenet_v2_x0_5", file, server.url)
    server.routes[f"/{url.rpartition('/')[2]}"] = sends(file.read_bytes())
    first = load_model("shufflenet_v2_x0_5", device="cpu")
    again = load_model("shufflenet_v2_x0_5", weights="imagenet1k_v1", device="cpu", offline=True)
    assert len(server.hits) == 1
    assert first.provenance == again.provenance
    assert (torch_home() / url.rpartition("/")[2]).is_file()


def test_a_named_weight_never_falls_back() -> None:
    with pytest.raises(CannotRunError) as caught:
        load_model("resnet18", weights="IMAGENET1K_V1", offline=True)
    message = str(caught.value)
    assert "--weights FILE" in message
    assert "--weights none" in message
    assert str(torch_home() / "resnet18-f37072fd.pth") in message


def test_a_large_network_without_weights_names_the_ways_out() -> None:
    with pytest.raises(CannotRunError, match=r"resnet50.*--weights FILE.*--weights none.*put the file at"):
        load_model("resnet50", offline=True)


def test_a_damaged_file_in_torch_home_is_not_used() -> None:
    target = torch_home() / "resnet18-f37072fd.pth"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"damaged or a different file.*Delete it"):
        load_model("resnet18", offline=True)


def test_unknown_weights_list_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"IMAGENET1K_V9.*IMAGENET1K_V2, IMAGENET1K_V1"):
        load_model("resnet50", weights="IMAGENET1K_V9")


def test_weights_without_a_classifier_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no classifier.*IMAGENET1K_V1"):
        load_model("vgg16", weights="IMAGENET1K_FEATURES", offline=True)


def test_a_file_that_is_the_published_one_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT
    file = tmp_path / "renamed.pth"
    torch.save(published_state("shufflenet_v2_x0_5", member), file)
    publish(monkeypatch, "shufflenet_v2_x0_5", file, "https://example.invalid")
    model = load_model("shufflenet_v2_x0_5", weights=file, offline=True, device="cpu")
    assert model.class_names == tuple(member.meta["categories"])
    assert "IMAGENET1K_V1" in model.provenance.weights


def test_a_file_with_other_classes(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    state = random_state(models.shufflenet_v2_x0_5(num_classes=17))
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, file)
    model = load_model("shufflenet_v2_x0_5", weights=file, offline=True, device="cpu")
    assert (model.num_classes, model.class_names, model.domain) == (17, None, "unknown")
    assert model.fresh(1).num_classes == 17
    with pytest.raises(CheckpointError, match="does not fit torchvision:shufflenet_v2_x1_0"):
        load_model("shufflenet_v2_x1_0", weights=file, offline=True)


def test_random_weights_of_networks_with_auxiliary_heads_warn_of_nothing() -> None:
    model = load_model("googlenet", weights="none", device="cpu")
    assert model.num_classes == 1000
    assert not any("aux" in name.lower() for name, _ in model.network.named_modules())


def test_options_reach_the_factory() -> None:
    model = load_model("torchvision:mnasnet0_5?dropout=0.75", weights="none", device="cpu")
    assert model.network.get_submodule("classifier.0").p == 0.75
    with pytest.raises(UsageError, match="mnasnet0_5 cannot be built with these options"):
        load_model("torchvision:mnasnet0_5?depth=3", weights="none")
