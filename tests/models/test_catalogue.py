from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import timm
from torchvision import models

from probe.models.load import catalogue
from probe.models.source import ZOO
from probe.models.weights import fetch as hub
from probe.models.weights.cache import digits_file
from probe.models.weights.fetch import torch_home
from tests.models.test_hub import cache_file


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", None)


def test_everything_is_listed_once() -> None:
    rows = catalogue()
    by_source = {
        source: [row.name for row in rows if row.source == source] for source in {r.source for r in rows}
    }
    assert by_source["zoo"] == list(ZOO.names())
    assert by_source["embedded"] == ["efficientnet_lite0"]
    assert by_source["torchvision"] == models.list_models(module=models)
    assert by_source["timm"] == timm.list_models()
    order = list(dict.fromkeys(row.source for row in rows))
    assert order == ["zoo", "embedded", "torchvision", "timm"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("zoo:", set(ZOO.names())),
        ("zoo:RESNET5", {"resnet56"}),
        ("torchvision:vgg1?", {"vgg11", "vgg13", "vgg16", "vgg19"}),
        ("zoo:*net", {"alexnet", "densenet", "lenet", "resnet"}),
        ("no such network", set()),
    ],
)
def test_queries(query: str, names: set[str]) -> None:
    assert {row.name for row in catalogue(query)} == names


def test_a_part_of_a_name_finds_it_in_every_source() -> None:
    sources = {row.source for row in catalogue("resnet") if "resnet" in row.name}
    assert sources == {"zoo", "torchvision", "timm"}


def one(query: str) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    name = query.partition(":")[2]
    (row,) = (row for row in catalogue(query) if row.name == name)
    return row.weights, row.origin, row.present


def test_where_weights_come_from() -> None:
    weights, origin, present = one("torchvision:resnet50")
    assert weights == ("IMAGENET1K_V2", "IMAGENET1K_V1", "digits", "none")
    assert (origin, present) == ("download.pytorch.org", ())
    weights, origin, present = one("timm:resnet26d")
    assert weights[0] == timm.get_pretrained_cfg("resnet26d").tag
    assert (origin, present) == ("huggingface.co", ())
    assert one("embedded:efficientnet_lite0")[2] == ("imagenet",)
    assert one("zoo:lenet") == (("digits", "none"), "trained locally on digits, once", ())


def test_what_is_here_now() -> None:
    torch_home().mkdir(parents=True)
    (torch_home() / "resnet50-0676ba61.pth").write_bytes(b"")
    assert one("torchvision:resnet50")[2] == ("IMAGENET1K_V1",)
    config = timm.get_pretrained_cfg("resnet26d")
    cache_file(hub.hub_cache(), "model.safetensors", b"x", repo=config.hf_hub_id)
    assert one("timm:resnet26d")[2] == (config.tag,)
    other = timm.get_pretrained_cfg("resnet18")
    cache_file(hub.hub_cache(), "config.json", b"x", repo=other.hf_hub_id)
    assert one("timm:resnet18")[2] == ()
    kept = digits_file("lenet", "0123456789abcdef")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"")
    assert one("zoo:lenet")[2] == ("digits",)


def test_the_zoo_alone_needs_no_library() -> None:
    code = (
        "import sys\nfrom probe.models.load import catalogue\n"
        "print(len(catalogue('zoo:')), sorted({'timm', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{len(ZOO.names())} []"
