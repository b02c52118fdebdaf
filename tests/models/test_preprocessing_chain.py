"""What a network sees equals what a plain PyTorch loop gives it, and the report says what was done and assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models as torchvision_models
from torchvision import transforms
from torchvision.datasets import ImageFolder

import probe
from probe.core.errors import UsageError
from probe.data.load import load_images
from probe.data.preprocess import fit
from probe.data.spec import InputSpec
from probe.models.chain import describe_preprocessing
from probe.models.load import load_model
from probe.models.pair import load_both

NET = """
import torch
from torch import nn

def net(num_classes=3):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, num_classes)
    )
"""


def folder_of(
    root: Path, side: int | tuple[int, int], each: int = 8, classes: tuple[str, ...] = ("a", "b", "c")
) -> Path:
    rng = np.random.default_rng(0)
    height, width = (side, side) if isinstance(side, int) else side
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8) // 2 + 40 * number
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{index}.png")
    return root


def checkpoint_of(folder: Path) -> tuple[str, Path, nn.Module]:
    (folder / "net.py").write_text(NET)
    scope: dict[str, Any] = {}
    exec(NET, scope)  # noqa: S102 (our own text)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = scope["net"]()
    torch.save(network.state_dict(), folder / "net.pth")
    return f"{folder / 'net.py'}:net", folder / "net.pth", network.eval()


@pytest.mark.parametrize("side", [8, 28, 32, 224])
def test_the_accuracy_is_that_of_a_plain_loop_on_the_same_files(side: int, tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", side)
    name, weights, network = checkpoint_of(tmp_path)
    loop = ImageFolder(
        str(data), transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.4] * 3, [0.25] * 3)])
    )
    with torch.no_grad():
        logits = torch.cat([network(image[None]) for image, _ in loop])
    expected = (logits.argmax(1) == torch.tensor(loop.targets)).double().mean().item()
    model, images = load_both(name, str(data), weights=weights, mean=0.4, std=0.25, device="cpu")
    report = probe.filters(model, images, views=["weights"])
    assert report["accuracy"].value == pytest.approx(expected, abs=1e-9)
    batch = next(images.batches(model.input, 99))
    assert torch.allclose(model.logits(batch.images), logits, atol=1e-5)
    assert report.data.preprocessing.chain["n_resized"] == 0
    assert report.data.preprocessing.chain["resize"] is None
    assert report.checks[0].status == "pass"


def test_an_unknown_normalisation_is_a_warning(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", 32)
    name, weights, _ = checkpoint_of(tmp_path)
    model, images = load_both(name, str(data), weights=weights, img_size=32, device="cpu")
    report = probe.filters(model, images, views=["weights"])
    assert report.checks[0].status == "warn"
    assert report.data.preprocessing.assumed == ("normalisation",)
    assert "--mean and --std" in report.checks[0].detail


def test_images_of_another_size_are_resized_directly_and_that_is_said(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", (40, 50))
    name, weights, network = checkpoint_of(tmp_path)
    model, images = load_both(name, str(data), weights=weights, img_size=32, mean=0, std=1, device="cpu")
    steps = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    with torch.no_grad():
        logits = torch.cat([network(image[None]) for image, _ in ImageFolder(str(data), steps)])
    batch = next(images.batches(model.input, 99))
    assert torch.allclose(model.logits(batch.images), logits, atol=1e-5)
    said = describe_preprocessing(model, images)
    assert said.chain["resize"] == {"height": 32, "width": 32, "aspect": "squash", "antialias": True}
    assert said.chain["crop"] is None
    assert said.assumed == ("resizing and crop",)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"resize": 40}, [transforms.Resize(40), transforms.CenterCrop(32)]),
        ({"resize": (36, 44)}, [transforms.Resize((36, 44)), transforms.CenterCrop(32)]),
        ({"crop": 0.8}, [transforms.Resize(40), transforms.CenterCrop(32)]),
        ({"crop": "none"}, [transforms.Resize((32, 32))]),
        (
            {"resize": 36, "interpolation": "bicubic"},
            [transforms.Resize(36, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(32)],
        ),
    ],
)
@pytest.mark.parametrize("size", [32, (50, 40)])
def test_the_resizing_that_is_asked_for_is_torchvisions(
    options: dict[str, Any], steps: list[Any], size: int | tuple[int, int], tmp_path: Path
) -> None:
    data = folder_of(tmp_path / "data", size, each=2)
    name, weights, _ = checkpoint_of(tmp_path)
    model, images = load_both(
        name, str(data), weights=weights, img_size=32, mean=0, std=1, device="cpu", **options
    )
    expected = torch.stack(
        [image for image, _ in ImageFolder(str(data), transforms.Compose([*steps, transforms.ToTensor()]))]
    )
    assert torch.equal(next(images.batches(model.input, 99)).images, expected)
    assert describe_preprocessing(model, images).assumed == ()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"resize": 20}, "resize to at least"),
        ({"resize": 999_999}, "megapixels"),
        ({"resize": 40, "crop": 0.9}, "not both"),
        ({"crop": "half"}, "0.875"),
        ({"crop": 1.5}, "crop"),
        ({"interpolation": "lanczos"}, "no interpolation"),
    ],
)
def test_resizing_without_meaning_is_a_usage_error(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    name, weights, _ = checkpoint_of(tmp_path)
    with pytest.raises(UsageError, match=reason):
        load_model(name, weights=weights, img_size=32, device="cpu", **options)


def test_a_network_of_unknown_size_gets_small_images_at_their_own_size(tmp_path: Path) -> None:
    name, weights, _ = checkpoint_of(tmp_path)
    for side in (8, 28):
        data = folder_of(tmp_path / str(side), side, each=2)
        model, images = load_both(name, str(data), weights=weights, device="cpu")
        assert model.input.size == (3, side, side)
    large = folder_of(tmp_path / "large", (300, 400), each=1)
    model, images = load_both(name, str(large), weights=weights, mean=0, std=1, device="cpu")
    assert model.input.size == (3, 224, 224)
    next(images.batches(model.input, 9))
    assert describe_preprocessing(model, images).assumed == ("input size", "resizing and crop")


TORCHVISION = ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "efficientnet_b0"]
TIMM = [
    "resnet10t.c3_in1k",
    "mobilenetv3_small_050.lamb_in1k",
    "convnext_atto.d2_in1k",
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "mobilevit_xxs.cvnets_in1k",
]


def photograph(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("size", [(341, 260), (224, 224)])
def test_torchvisions_networks_see_what_their_own_transform_gives(
    name: str, size: tuple[int, int], tmp_path: Path
) -> None:
    photograph(size).save(tmp_path / "photo.png")
    model = load_model(f"torchvision:{name}", weights="none", device="cpu")
    pixels = load_images(tmp_path / "photo.png").get(0, model.input)
    preset = torchvision_models.get_model_weights(name).DEFAULT.transforms()
    with torch.no_grad():
        expected = model.network(preset(photograph(size))[None])
        assert torch.allclose(model.logits(pixels[None]), expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", TIMM)
def test_timms_networks_see_what_their_own_transform_gives(name: str, tmp_path: Path) -> None:
    from timm.data import create_transform, resolve_data_config

    photograph((341, 260)).save(tmp_path / "photo.png")
    model = load_model(f"timm:{name}", weights="none", device="cpu")
    pixels = load_images(tmp_path / "photo.png").get(0, model.input)
    own = create_transform(**resolve_data_config({}, model=model.network))
    with torch.no_grad():
        expected = model.network(own(photograph((341, 260)))[None])
        assert torch.allclose(model.logits(pixels[None]), expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("share", [1.0, 0.95, 0.875])
@pytest.mark.parametrize("size", [(90, 60), (61, 88), (64, 64), (20, 33)])
def test_each_of_timms_crop_modes_is_followed(mode: str, share: float, size: tuple[int, int]) -> None:
    from timm.data import create_transform

    from probe.models.measure import published_input

    config = {"crop_pct": share, "crop_mode": mode, "interpolation": "bicubic", "mean": (0.5, 0.4, 0.3)}
    spec = published_input((3, 64, 64), config)
    theirs: Any = create_transform(
        (3, 64, 64),
        interpolation="bicubic",
        crop_pct=share,
        crop_mode=mode,
        mean=config["mean"],
        std=(1, 1, 1),
    )
    expected = theirs(photograph(size)) + torch.tensor(config["mean"])[:, None, None]
    assert torch.allclose(torch.from_numpy(fit(photograph(size), spec, framed=False)), expected, atol=1e-6)


def test_an_image_of_the_size_stays_as_it_is_only_where_the_transform_is_not_known() -> None:
    image = photograph((32, 32))
    own = InputSpec((3, 32, 32), 0.875, as_is=True)
    assert np.array_equal(
        fit(image, own, framed=False) * 255, np.moveaxis(np.asarray(image, np.float32), 2, 0)
    )
    published = InputSpec((3, 32, 32), 0.875)
    assert not np.array_equal(fit(image, published, framed=False), fit(image, own, framed=False))
