"""The folder in which the shown command lines run: the files that they name, small.

What is in place of something else: the reports that are compared, ``my.pth`` and ``robust.safetensors`` come from the
shortest runs that give them; Fashion-MNIST is a copy of random pictures in torchvision's layout. ``publish`` puts random
numbers under the names of published weights, because a test downloads nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from probe.models.weights import fetch
from tests.helpers.command_lines import run
from tests.helpers.data_copies import fashion_copy

CLASSES = ("ant", "bee", "cat")

NETWORK = '''
"""A ResNet with two stages, as a user may have written it."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, before, width, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + shortcut)


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Block(8, 8), Block(8, 8))
        self.layer2 = nn.Sequential(Block(8, 16, 2), Block(16, 16))
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean((2, 3)))


def net(num_classes=3):
    return Net(num_classes)
'''

LOSSES = """
import torch


def focal(logits, labels):
    likelihood = logits.log_softmax(1).gather(1, labels[:, None])
    return -((1 - likelihood.exp()) ** 2 * likelihood).mean()
"""

SWEEP = """
studies:
  anatomy: {html: true}
models: [zoo:lenet, {model: "my_net.py:net", img-size: 32}]
"""

SMALL_RUN = "-d digits -n 6 --weights none --views curve --no-checks --steps 1 -q"


def build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write everything that a shown command line names into ``folder``."""
    monkeypatch.chdir(folder)
    (folder / "my_net.py").write_text(NETWORK)
    (folder / "my_losses.py").write_text(LOSSES)
    (folder / "sweep.yaml").write_text(SWEEP)
    _pictures(folder / "my_folder", each=16)
    _pictures(folder / "concept_folder", each=6)
    _masks(folder / "mask_folder", count=4)
    mine = "probe train my_net.py:net --data my_folder --img-size 32 --epochs 6 --out my.safetensors -q"
    _must(mine)
    from safetensors.torch import load_file

    torch.save(load_file("my.safetensors"), "my.pth")
    _must("probe train zoo:resnet20 --data digits -n 64 --epochs 1 --out robust.safetensors -q")
    for name in ("adversarial-A", "adversarial-B", "adversarial-resnet20-1", "adversarial-resnet20-2"):
        _must(f"probe adversarial -m zoo:lenet {SMALL_RUN} --seed {ord(name[-1])} --out reports/{name}")
    for name, source in (("plain", "adversarial-A"), ("robust", "adversarial-B")):
        shutil.copytree(Path("reports", source), name)
    for prefix in ("t10k", "train"):
        raw = folder / "data" / "FashionMNIST" / "raw"
        fashion_copy(raw, np.random.default_rng(0), count=60, prefix=prefix)
    for place in (".zfunc", ".config/fish/completions"):
        (folder / place).mkdir(parents=True)


def _must(line: str) -> None:
    ran = run(line)
    assert ran.code == 0, (line, ran.err)


def _pictures(place: Path, each: int) -> None:
    """Write one folder of coloured noise for each class; the colour tells the class."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (place / name).mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(0, 160, (32, 32, 3)) + np.eye(3)[number] * 90
            Image.fromarray(pixels.astype(np.uint8)).save(place / name / f"{index}.png")


def _masks(place: Path, count: int) -> None:
    """Write images of noise with a red square, and the square's masks."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks/red"):
        (place / name).mkdir(parents=True)
    for index in range(count):
        mask = np.zeros((32, 32), bool)
        top, left = rng.integers(0, 20, 2)
        mask[top : top + 10, left : left + 10] = True
        pixels = np.where(mask[:, :, None], (255, 0, 0), rng.integers(0, 256, (32, 32, 3)))
        Image.fromarray(pixels.astype(np.uint8)).save(place / "images" / f"{index}.png")
        Image.fromarray(mask).save(place / "masks/red" / f"{index}.png")


def publish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put random numbers where the published weights of resnet18 and convnext_atto would be.

    torchvision's file has its sha256 in its name, which random numbers do not have: it is not compared.
    """
    import timm
    from huggingface_hub.file_download import repo_folder_name
    from safetensors.torch import save_file
    from torchvision.models import ResNet18_Weights, resnet18

    monkeypatch.setattr(fetch, "_check_hash", lambda path, prefix: path)
    torch.manual_seed(0)
    home = fetch.torch_home()
    home.mkdir(parents=True, exist_ok=True)
    torch.save(resnet18().state_dict(), home / ResNet18_Weights.DEFAULT.url.rpartition("/")[2])
    network = timm.create_model("convnext_atto")
    repo = fetch.hub_cache() / repo_folder_name(
        repo_id=network.pretrained_cfg["hf_hub_id"], repo_type="model"
    )
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(network.state_dict(), repo / "snapshots" / ("0" * 40) / "model.safetensors")
