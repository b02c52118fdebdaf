"""The data that come with installed packages: digits and photographs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from probe.core.errors import CannotRunError
from probe.data.images import InputSpec
from probe.data.load import load_images
from probe.data.sources.digits import digits_split


def test_the_split_parts_the_digits_in_two():
    train, test = digits_split()
    assert sorted([*train, *test]) == list(range(1797))
    assert len(test) == round(0.2 * 1797)
    for part in (train, test):
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0)


def test_the_split_is_stratified_and_fixed():
    labels = load_digits().target
    _, test = digits_split()
    expected = np.bincount(labels) * len(test) / len(labels)
    assert np.abs(np.bincount(labels[test]) - expected).max() < 1
    assert np.array_equal(test, digits_split()[1])


@pytest.mark.parametrize(("name", "part"), [("digits-train", 0), ("digits", 1)])
def test_digits_are_scikit_learns(name, part):
    data, chosen = load_digits(), digits_split()[part]
    images = load_images(name, n=2000)
    batch = next(images.batches(InputSpec((1, 8, 8), 0.875), 2000))
    assert np.array_equal(batch.images[:, 0].numpy(), (data.images[chosen] / 16).astype(np.float32))
    assert np.array_equal(batch.labels.numpy(), data.target[chosen])
    assert images.class_names == tuple("0123456789")
    assert (images.domain, images.framed, images.num_classes) == ("digits", True, 10)
    assert images.item_name(5) == f"digit {chosen[5]}"


def test_digits_are_resized_without_a_crop():
    images = load_images("digits", n=5)
    native = images.get(0, InputSpec((1, 8, 8), 0.5))
    large = images.get(0, InputSpec((3, 16, 16), 0.5, "nearest"))
    assert torch.equal(large, native.repeat_interleave(2, 1).repeat_interleave(2, 2).expand(3, -1, -1))


def test_the_photographs_are_twenty_labelled_squares():
    images = load_images("imagenet-samples")
    assert len(images) == 20
    assert (images.class_names, images.num_classes, images.domain) == (None, 1000, "imagenet")
    for i, item in enumerate(images.items):
        assert item.name == f"imagenet_{i:02}_{item.label}.jpg"
        picture = item.read()
        assert picture.mode == "RGB"
        assert picture.width == picture.height >= 512
    assert images.items[0].label == 243


def test_the_photographs_are_found_without_importing_foolbox():
    code = (
        "import sys; from probe.data.load import load_images; "
        "assert len(load_images('imagenet-samples')) == 20; "
        "sys.exit(any(name in sys.modules for name in ('foolbox', 'sklearn', 'timm', 'captum')))"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_without_foolbox_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    from probe.data.source import Request
    from probe.data.sources.imagenet_samples import photographs

    with pytest.raises(CannotRunError, match="Install foolbox"):
        photographs(Request())
