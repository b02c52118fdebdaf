"""timm's networks, against timm's own way of loading a file."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers.weight_files import random_state
from safetensors.torch import save, save_file

from probe.core.errors import CannotRunError, UsageError
from probe.models.load import load_model
from probe.models.source import Access, HubFile, UrlFile
from probe.models.sources import timm as source
from probe.models.weights import fetch as hub
from probe.models.weights.fetch import torch_home
from tests.models.test_hub import cache_file

SMALL = "lcnet_050"


def find(name: str) -> Any:
    return source.Timm().find(name, {}, Access())


def close(first: torch.Tensor, second: torch.Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5 * float(second.abs().max()))


@pytest.mark.parametrize("name", [SMALL, "mobilenetv3_small_050"])
def test_the_same_logits_as_timm(name: str, tmp_path: Path) -> None:
    config = timm.get_pretrained_cfg(name)
    state = random_state(timm.create_model(name))
    cache_file(hub.hub_cache(), "model.safetensors", save(state), repo=config.hf_hub_id)
    model = load_model(f"timm:{name}", offline=True, device="cpu")
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    own = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}).eval()
    pixels = torch.rand(2, *model.input.size, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(config.mean), torch.tensor(config.std)
    with torch.no_grad():
        close(model.logits(pixels), own((pixels - mean[:, None, None]) / std[:, None, None]))
    assert model.num_classes == len(model.class_names or ()) == 1000
    assert model.domain == "imagenet"
    assert model.provenance.sha256 == hashlib.sha256(save(state)).hexdigest()
    assert f"huggingface.co/{config.hf_hub_id}" in model.provenance.url
    assert model.network.pretrained_cfg["state_dict"] is None


def test_older_layouts_are_left_to_timm() -> None:
    """The first files of this family named the layers as its authors did; timm's filter knows these."""
    network = timm.create_model("convnext_atto")
    state = random_state(network)
    authors = {_authors_key(key): value for key, value in state.items()}
    assert authors.keys().isdisjoint(state.keys() - {"head.weight"})
    loaded = find("convnext_atto").published[0].load(source.Build(), authors)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in state.items())


def _authors_key(key: str) -> str:
    key = re.sub(r"^stem\.(\d)", r"downsample_layers.0.\1", key)
    key = re.sub(r"^stages\.(\d)\.downsample\.(\d)", r"downsample_layers.\1.\2", key)
    key = re.sub(r"^stages\.(\d)\.blocks\.(\d+)", r"stages.\1.\2", key)
    key = key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv").replace("head.fc.", "head.")
    return re.sub(r"^head\.norm\.", "norm.", key)


@pytest.mark.parametrize(
    "name", ["resnet50", "vit_tiny_patch16_224", "tf_efficientnet_lite0", "nfnet_f0", "resnet50d"]
)
def test_preprocessing_is_timms(name: str) -> None:
    for published in find(name).published:
        config = timm.get_pretrained_cfg(f"{name}.{published.name}")
        data = timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
        assert published.framing.input.size == tuple(data["input_size"])
        assert published.framing.input.interpolation == data["interpolation"]
        assert published.framing.mean == tuple(data["mean"])
        assert published.framing.std == tuple(data["std"])
        if config.crop_mode == "center":
            assert published.framing.input.crop == data["crop_pct"]
        assert published.num_classes == config.num_classes


def test_the_default_comes_first_and_a_tag_before_it() -> None:
    default = timm.get_pretrained_cfg("resnet50").tag
    assert find("resnet50").published[0].name == default
    assert find("resnet50.tv_in1k").published[0].name == "tv_in1k"
    assert {published.name for published in find("resnet50").published} == {
        entry.partition(".")[2] for entry in timm.list_pretrained("resnet50.*")
    }


def test_every_network_can_be_found() -> None:
    listed = timm.list_models()
    assert list(source.Timm().names()) == listed
    for name in listed:
        for published in find(name).published:
            assert published.origins or not published.num_classes, (name, published.name)


def test_hub_first_then_the_older_address() -> None:
    for published in find("resnet18").published:
        kinds = [type(origin) for origin in published.origins]
        assert kinds in ([HubFile], [HubFile, UrlFile], [UrlFile])


def test_a_file_in_torch_home_is_used_too(monkeypatch: pytest.MonkeyPatch) -> None:
    state = random_state(timm.create_model(SMALL))
    torch_home().mkdir(parents=True)
    path = torch_home() / "unhashed.pth"
    torch.save(state, path)
    config = {**vars(timm.get_pretrained_cfg(SMALL)), "url": "https://example.invalid/unhashed.pth"}
    monkeypatch.setattr(source, "_config", lambda _: source._with_defaults(config))
    model = load_model(f"timm:{SMALL}", offline=True, device="cpu")
    assert model.provenance.url == "https://example.invalid/unhashed.pth"


def test_unknown_tags_and_names() -> None:
    with pytest.raises(UsageError, match=r"no weights 'zzz'. Available: .*tv_in1k"):
        load_model("timm:resnet50.zzz")
    with pytest.raises(UsageError, match=r"Did you mean .*resnet50"):
        load_model("timm:resnet55")


def test_features_without_a_classifier_are_refused() -> None:
    name = next(
        n for n in timm.list_models("vit_small*dinov2") if timm.get_pretrained_cfg(n).num_classes == 0
    )
    with pytest.raises(UsageError, match="no classifier"):
        load_model(f"timm:{name}", offline=True)


def test_weights_that_do_not_fit() -> None:
    config = timm.get_pretrained_cfg(SMALL)
    state = random_state(timm.create_model("lcnet_075"))
    cache_file(hub.hub_cache(), "model.safetensors", save(state), repo=config.hf_hub_id)
    with pytest.raises(CannotRunError, match=f"do not fit timm:{SMALL}"):
        load_model(f"timm:{SMALL}", offline=True)


def test_options_and_sizes_reach_the_network() -> None:
    model = load_model(
        "timm:lcnet_050?drop_rate=0.7", weights="none", num_classes=4, img_size=64, device="cpu"
    )
    assert (model.network.drop_rate, model.num_classes, model.input.size) == (0.7, 4, (3, 64, 64))
    vit = load_model("timm:vit_tiny_patch16_224", weights="none", img_size=64, device="cpu")
    assert vit.input.size == (3, 64, 64)
    with pytest.raises(UsageError, match="cannot be built with these options"):
        load_model("timm:lcnet_050?nonsense=1", weights="none")
