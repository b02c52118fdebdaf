"""Weights trained on scikit-learn's digits: for small networks whose own weights are not available.

Training uses the training part of the fixed split of ``probe.data.sources.digits``; accuracy is measured on the
held-out part, which is never trained on. The images are those that the data source gives for the same input.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

import probe
from probe.core import seeds
from probe.core.errors import CannotRunError, UsageError
from probe.core.precision import bf16_pays
from probe.core.progress import Progress
from probe.data.images import InputSpec
from probe.data.source import SOURCES as DATA
from probe.data.source import Request
from probe.models.first_pass import ShapeError
from probe.models.loaded import PixelModel
from probe.models.measure import NetworkFacts, choose_memory_format, framing_of, measure
from probe.models.source import Architecture, Build, Preprocessing
from probe.models.weights.cache import digits_file, write_state
from probe.models.weights.checkpoint import CheckpointError, read_checkpoint
from probe.models.weights.fit_names import load_into
from probe.train.loop.evaluation import count_correct, reestimate_batch_norm
from probe.train.loop.fit import DivergedError, Recipe, fit

CLASS_NAMES = tuple("0123456789")
SIZE = 64
"""Height and width in pixels, for networks that take any size."""

SMALL_MACS = 200e6
SMALL_PARAMETERS = 15e6
"""Upper limits for networks that train in about a minute, at the image size used for digits.

Training costs about three forward passes per image and epoch: 200 million multiply-accumulates on 1,438 images
for 6 epochs are 5·10¹² in total, about a minute on two cores of 2020 or later; with 15 million parameters
the optimiser's share stays small. torchvision's resnet18 (149 million, 11.2 million) is small by this rule.
"""

_EPOCHS = ((10e6, 15, 15, 2e-3), (60e6, 10, 15, 2e-3), (float("inf"), 6, 10, 1e-3))
"""(maximum multiply-accumulates, epochs with normalisation, epochs and learning rate without): the first row that fits.

Without normalisation, training takes longer: zoo:inception classifies 97% of the held-out digits correctly after 10
epochs, 99% after 15. Large networks without normalisation get a lower rate.
"""

_SEED = 0
_VERSION = 2


@dataclass(frozen=True)
class DigitsSetting:
    """A network to train on digits, and everything that its weights will depend on."""

    network: nn.Module
    framing: Preprocessing
    facts: NetworkFacts
    recipe: Recipe
    key: str

    @property
    def small(self) -> bool:
        """Whether training takes about a minute (``SMALL_MACS``, ``SMALL_PARAMETERS``)."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        return self.facts.macs <= SMALL_MACS and parameters <= SMALL_PARAMETERS


@dataclass(frozen=True)
class DigitsWeights:
    """A trained network's score on the held-out digits, and the file with its weights."""

    correct: int
    n: int
    path: Path
    sha256: str

    @property
    def accuracy(self) -> str:
        """The held-out accuracy in words."""
        return f"{100 * self.correct / self.n:.1f}% accuracy on {self.n} held-out digits"


def digits_setting(
    architecture: Architecture, build: Callable[[Build], nn.Module], size: tuple[int, int] | None
) -> DigitsSetting:
    """Return the setting for training a network on digits.

    The image size is ``size`` if given, else 64×64 or the network's own size if that is smaller, or if the
    network does not accept 64×64. Raises ShapeError if it accepts none of these, and UsageError if it cannot have 10
    classes.
    """
    failure: ShapeError | None = None
    for reduce in (False,) if size else (True, False):
        with seeds.scoped(_SEED, "digits weights"):
            network = build(Build(len(CLASS_NAMES), size))
        own = architecture.framing or framing_of(network)[0]
        channels, height, width = own.resized(size).input.size
        shape = (channels, min(SIZE, height), min(SIZE, width)) if reduce else (channels, height, width)
        try:
            facts = measure(network, shape, architecture.source)
        except ShapeError as error:
            failure = error
            continue
        if facts.num_classes != len(CLASS_NAMES):
            raise UsageError(
                f"{architecture.source} has {facts.num_classes} classes, but digits have 10: add a parameter "
                "num_classes to its function, or use other weights."
            )
        framing = Preprocessing(InputSpec(shape, 1.0, "bilinear"), (0.5,) * channels, (0.5,) * channels)
        recipe = recipe_for(network, facts)
        return DigitsSetting(network, framing, facts, recipe, _key(architecture, network, framing, recipe))
    raise failure or ShapeError(
        f"{architecture.source} does not accept any size that digits can be resized to."
    )


def train_or_load(
    setting: DigitsSetting, name: str, device: torch.device, progress: Progress
) -> DigitsWeights:
    """Put digits weights into ``setting.network``: from the cache, or else trained now and cached.

    Raises CannotRunError when the network cannot be trained or the weights cannot be written.
    """
    path = digits_file(name, setting.key)
    if path.is_file():
        try:
            return _load(setting, path)
        except (CheckpointError, KeyError, ValueError, TypeError) as error:
            progress.say(
                f"The cached digits weights {path.name} cannot be used and are trained again: {error}"
            )
    progress.say(f"Training {name} on the embedded digits, once ({setting.recipe.epochs} epochs).")
    correct, n, seconds = _train(setting, name, device, progress)
    facts = {
        "format": "digits weights",
        "correct": str(correct),
        "n": str(n),
        "seconds": f"{seconds:.1f}",
        "recipe": json.dumps(asdict(setting.recipe)),
        "precision": "bfloat16 autocast"
        if bf16_pays(setting.network, device, setting.framing.input.size)
        else "float32",
        "input": json.dumps(setting.framing.input.size),
        "cnn-probe": probe.__version__,
        "torch": torch.__version__,
    }
    try:
        write_state(path, setting.network.state_dict(), facts)
    except OSError as error:
        progress.say(
            f"! The digits weights cannot be kept in {path.parent} ({error.strerror}), so they are trained again next time: set "
            "PROBE_CACHE to a writable folder."
        )
        return _load_from_elsewhere(setting, path.name, facts)
    return _load(setting, path)


def _load_from_elsewhere(setting: DigitsSetting, name: str, facts: dict[str, str]) -> DigitsWeights:
    """Write the weights into a temporary folder, and load them from there."""
    try:
        with tempfile.TemporaryDirectory(prefix="probe-digits-") as folder:
            path = Path(folder) / name
            write_state(path, setting.network.state_dict(), facts)
            return _load(setting, path)
    except OSError as error:
        raise CannotRunError(
            f"Could not save the digits weights in the temporary folder either: {error.strerror}. Make room, or set "
            "PROBE_CACHE to a writable folder."
        ) from error


def _train(
    setting: DigitsSetting, name: str, device: torch.device, progress: Progress
) -> tuple[int, int, float]:
    """Train the setting's network; return correct answers on the held-out part, number of images, and seconds."""
    started = time.perf_counter()
    layout = choose_memory_format(setting.facts, device)
    framing, recipe = (
        setting.framing,
        replace(setting.recipe, bf16=bf16_pays(setting.network, device, setting.framing.input.size)),
    )
    module = PixelModel(setting.network, framing.mean, framing.std)
    module.requires_grad_(True).to(device=device, memory_format=layout)  # type: ignore[call-overload]
    images, labels = _digits("digits-train", framing.input)
    test_images, test_labels = _digits("digits", framing.input)
    generator = seeds.generator(_SEED, "digits training")
    try:
        with progress.task(f"Training {name} on digits", recipe.epochs * len(images)) as advance:
            fit(
                module,
                images,
                labels,
                recipe,
                generator=generator,
                advance=advance,
                memory_format=layout,
            )
        # The schedule ends long before slow running averages (momentum 0.01) have converged.
        reestimate_batch_norm(module, torch.split(images, 128))
        correct = count_correct(module, test_images, test_labels, batch_size=128)
    except DivergedError as error:
        raise CannotRunError(f"{name} cannot be trained on digits: {error}") from error
    finally:
        setting.network.to("cpu").eval().requires_grad_(False)
    return correct, len(test_labels), time.perf_counter() - started


def _digits(part: str, spec: InputSpec) -> tuple[Tensor, Tensor]:
    """Return a part's images, (N, C, H, W) with one grey channel repeated without copying, and labels."""
    grey = replace(spec, size=(1, *spec.size[1:]))
    images, labels = [], []
    for batch in DATA.get(part)(Request()).batches(grey, 256):
        images.append(batch.images)
        if batch.labels is not None:
            labels.append(batch.labels)
    return torch.cat(images).expand(-1, spec.size[0], -1, -1), torch.cat(labels)


def _load(setting: DigitsSetting, path: Path) -> DigitsWeights:
    checkpoint = read_checkpoint(path)
    load_into(setting.network, checkpoint.state, str(path))
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    setting.network.eval().requires_grad_(False)
    return DigitsWeights(int(metadata["correct"]), int(metadata["n"]), path, checkpoint.sha256)


def recipe_for(network: nn.Module, facts: NetworkFacts) -> Recipe:
    """Return the recipe for training a network: more epochs if they are cheap.

    AdamW, because one learning rate then works for networks with and without batch normalisation or
    stochastic depth; the rate is lower for networks without normalisation.
    """
    normed = any(isinstance(sub, nn.modules.batchnorm._BatchNorm) for sub in network.modules())
    _, epochs, plain_epochs, plain_lr = next(row for row in _EPOCHS if facts.macs <= row[0])
    return Recipe(
        epochs=epochs if normed else plain_epochs,
        optimiser="adamw",
        lr=3e-3 if normed else plain_lr,
        weight_decay=0.05,
        clip_norm=1.0,
        label_smoothing=0.05,
        augment=("shift",),
    )


def _key(architecture: Architecture, network: nn.Module, framing: Preprocessing, recipe: Recipe) -> str:
    """Return a digest of the architecture, its structure, the input and the recipe."""
    shapes = [(key, tuple(value.shape)) for key, value in network.state_dict().items()]
    facts = (
        _VERSION,
        architecture.source,
        architecture.identity,
        repr(network),
        shapes,
        framing,
        recipe,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
