"""A network of ResNet-20's size for 32×32 images, trained here, and images of its held-out part that it names right."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from device import DEVICE
from torch import Tensor

import probe
from probe.core.errors import CannotRunError
from probe.models.loaded import LoadedModel
from probe.train.setup import RecipeOptions
from probe.train.trainer import TrainOptions, train

_TRAINING_IMAGES = 6000
_EPOCHS = 4


def network_and_images(n: int) -> tuple[str, LoadedModel, Tensor, Tensor]:
    """Train resnet20 on Fashion-MNIST (on digits where that is not here); return data, model, images, labels.

    The images (n, C, 32, 32) are held out from the training, and the network names all of them right.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.safetensors"
        try:
            data = "fashion-mnist"
            options = TrainOptions(
                recipe=RecipeOptions(epochs=_EPOCHS), n=_TRAINING_IMAGES, out=file, offline=True
            )
            train("zoo:resnet20", data, options)
        except CannotRunError:
            data = "digits"
            train("zoo:resnet20", data, TrainOptions(out=file))
        model = probe.load_model("zoo:resnet20", weights=file, device=str(DEVICE))
    found = probe.load_images(data, n=3 * n)
    images, labels = [], []
    for batch in found.batches(model.input, 256):
        assert batch.labels is not None
        images.append(batch.images)
        labels.append(batch.labels)
    x, y = torch.cat(images), torch.cat(labels)
    right = (model.logits(x, 256).argmax(1).cpu() == y).nonzero()[:n, 0]
    return data, model, x[right].to(DEVICE), y[right].to(DEVICE)
