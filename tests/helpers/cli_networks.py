"""A network of a user's own in a file, and a folder of three classes, small enough for runs of a second."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image

from probe.data.load import load_images
from probe.models.load import load_model

NETWORK = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())

    def forward(self, x):
        return torch.relu(x + self.body(x))

def net(num_classes=3):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), Block(6), Block(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, num_classes),
    )
    network.input_size = (3, 16, 16)
    return network
"""

MODEL = ["-m", "net.py:net", "--mean", "0.5", "--std", "0.5", "-q"]


def make(folder: Path, each: int = 4) -> None:
    """Write net.py and data/ant, data/bee, data/cat; one name is hard on file systems."""
    (folder / "net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("ant", "bee", "cat")):
        place = folder / "data" / name
        place.mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 120, (16, 16, 3)) + np.eye(3)[number] * 120
            file = "ü b:*?.png" if (number, i) == (1, 2) else f"{i}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(place / file)


def break_one(folder: Path) -> None:
    """Put an image into the folder that cannot be read."""
    (folder / "data" / "ant" / "broken.png").write_bytes(b"no picture")


def logits(pixels: Any) -> torch.Tensor:
    """Answer images (N, 3, H, W) in [0, 1] with the network of net.py, without anything of probe."""
    network = run_path("net.py")["net"]().eval()
    with torch.no_grad():
        found: torch.Tensor = network((torch.as_tensor(pixels) - 0.5) / 0.5)
    return found


def read(name: str) -> torch.Tensor:
    """Return an image of the folder as the network sees it, (3, 16, 16) in [0, 1]: scaled and cropped."""
    images = load_images("data")
    names = [images.item_name(index) for index in range(len(images))]
    return images.get(names.index(name), load_model("net.py:net", offline=True).input)


def strict(text: str) -> Any:
    """Parse JSON that has no NaN."""

    def refuse(token: str) -> NoReturn:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def results(folder: str) -> dict[str, Any]:
    document: dict[str, Any] = strict((Path(folder) / "results.json").read_text(encoding="utf-8"))
    return document


def values(folder: str) -> dict[str, Any]:
    return {one["name"]: one["value"] for one in results(folder)["results"]}


def samples(folder: str) -> list[dict[str, Any]]:
    text = (Path(folder) / "samples.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [strict(line) for line in text.splitlines()]
