"""A healthy network on digits, networks that fool attacks on purpose, and the evidence that a run gathers on them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from probe.attacks.base import Attack, AttackInputs, Traits
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS
from probe.attacks.select import SelectedAttack, choose_attacks
from probe.core.journal import NOTHING
from probe.core.progress import SILENT
from probe.core.seeds import scoped
from probe.core.state import training_mode
from probe.data.images import ImageSet, InputSpec, Item
from probe.models.loaded import LoadedModel, PixelModel, Provenance
from studies.adversarial.attack_run import AttackRun, make_task
from studies.adversarial.config import DEFAULT_ATTACKS, AdversarialConfig
from studies.adversarial.engine import BatchAttack
from studies.adversarial.evidence import SAMPLE, Evidence
from studies.adversarial.microbatch import MicroBatcher
from studies.adversarial.results import Clean, Results
from studies.adversarial.study import train_modes
from studies.adversarial.workspace import AdversarialWorkspace

TEST = 40
"""Digits kept out of the training, of which runs take the first."""


@cache
def digits() -> tuple[Tensor, Tensor]:
    """All digits (N, 1, 8, 8) in [0, 1] and their labels."""
    data = load_digits()
    return torch.tensor(data.images[:, None] / 16, dtype=torch.float32), torch.tensor(data.target)


def batch(classes: int = 10, n: int = 24) -> tuple[Tensor, Tensor]:
    """The first ``n`` held-out digits below ``classes``."""
    images, labels = (part[-TEST * 10 // classes :] for part in digits())
    rows = (labels < classes).nonzero()[:n, 0]
    return images[rows], labels[rows]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread inside the block: sums are then the same on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def trained(classes: int = 10, epochs: int = 12) -> nn.Module:
    """A small convolutional network, trained in a second; in eval mode."""
    images, labels = (part[: -TEST * 5] for part in digits())
    keep = labels < classes
    images, labels = images[keep], labels[keep]
    with scoped(0, "digits network", classes), torch.enable_grad(), one_thread():
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, classes),
        )
        optimiser = torch.optim.Adam(network.parameters(), 0.003)
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(64):
                noisy = images[rows] + 0.1 * torch.randn_like(images[rows])
                optimiser.zero_grad()
                F.cross_entropy(network(noisy), labels[rows]).backward()
                optimiser.step()
    network.zero_grad(set_to_none=True)
    return network.eval()


class Wrapped(nn.Module):
    """The trained network behind something that stands in an attack's way."""

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = copy.deepcopy(trained() if network is None else network)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


class Rounded(Wrapped):
    """Rounds its input to five grey levels: the gradient is 0 everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.round(x * 4) / 4)


class StraightThrough(Wrapped):
    """Rounds its input and passes the gradient on as if it had not."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + (torch.round(x * 4) / 4 - x).detach())


class Saturated(Wrapped):
    """Multiplies its logits by 10,000."""

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * super().forward(x)


class Smoothed(Wrapped):
    """Adds noise to its input in every pass (randomised smoothing with one draw)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn_like(x))


class Softmax(Wrapped):
    """Returns probabilities."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Denoising(Wrapped):
    """Moves its input by a gradient step towards its own answer before it answers."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            inner = x.detach().clone().requires_grad_()
            surest = self.network(inner).logsumexp(1).sum()
            (step,) = torch.autograd.grad(surest, inner)
        return super().forward(x + 0.01 * step.sign())


class TwoFaced(Wrapped):
    """Differentiable while gradients are recorded, rounded otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return super().forward(x)
        return super().forward(torch.round(x * 4) / 4)


class OnlyAtGreyLevels(Wrapped):
    """Has a gradient only at images whose values are all multiples of 1/16, as those of clean digits are."""

    def forward(self, x: Tensor) -> Tensor:
        on = ((x * 16 - torch.round(x * 16)).abs() < 1e-4).flatten(1).all(1).view(-1, 1, 1, 1)
        return super().forward(torch.where(on, x, x.detach()))


class Thermometer(Wrapped):
    """Steep steps between grey levels: a gradient that is 0 but for narrow places."""

    def forward(self, x: Tensor) -> Tensor:
        levels = torch.linspace(0.125, 0.875, 4).view(1, 4, 1, 1)
        return super().forward(torch.sigmoid((x - levels) * 2000).mean(1, keepdim=True))


class Recalling(Wrapped):
    """Far from every image that it knows, answers as the nearest one does: no gradient there."""

    def __init__(self, radius: float = 0.06) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        known = batch()[0]
        distances = (x.detach()[:, None] - known[None]).abs().flatten(2).amax(2)
        nearest = known[distances.argmin(1)]
        far = (distances.amin(1) > self.radius).view(-1, 1, 1, 1)
        return super().forward(torch.where(far, nearest, x))


class Refusing(Wrapped):
    """Answers 0 to what looks like noise, without a gradient anywhere."""

    def forward(self, x: Tensor) -> Tensor:
        rough = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3)) > 0.25
        logits = super().forward(x.detach())
        zero = F.one_hot(torch.zeros(len(x), dtype=torch.long), logits.shape[1]).to(logits)
        return torch.where(rough[:, None], 10 * zero, logits)


class _OneAtATime(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        flat = gradient.flatten(1)
        place = ((x.flatten(1).sum(1) * 1e4).long() % flat.shape[1])[:, None]
        return torch.zeros_like(flat).scatter_(1, place, flat.gather(1, place)).reshape(gradient.shape)


class Narrow(Wrapped):
    """Lets the gradient of one value at a time through, ever another, so that attacks climb slowly."""

    def forward(self, x: Tensor) -> Tensor:
        moved: Tensor = _OneAtATime.apply(x)
        return super().forward(moved)


class Stuck(Wrapped):
    """Stays in train mode."""

    def train(self, mode: bool = True) -> Self:
        return super().train(True)


class Constant(nn.Module):
    """Always answers 0, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10] * 0 + torch.arange(10, 0, -1.0)


@dataclass(frozen=True)
class Careless(Attack):
    """An attack that heeds no epsilon."""

    traits: ClassVar[Traits] = Traits(norms=("Linf",), access="none", paper="none", targeted=True)

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        return inputs.images + 0.1


def evidence_of(
    module: nn.Module,
    attacks: Sequence[str] = DEFAULT_ATTACKS,
    epsilon: float = 0.1,
    *,
    norm: str = "Linf",
    data: tuple[Tensor, Tensor] | None = None,
    targets: Tensor | None = None,
    own: Sequence[SelectedAttack] = (),
    bf16: bool = False,
) -> Evidence:
    """Attack as the study does and return the evidence on the images that are right, up to 16."""
    images, labels = batch() if data is None else data
    measure, seed = NORMS[norm], 0
    modes = train_modes(module)
    with training_mode(module, False), scoped(seed, "test run"):
        stuck = train_modes(module)
        model = AttackedModel(module, bf16=bf16)
        logits = model.verdict(images)
        classes = logits.shape[1]
        chosen = (
            *choose_attacks(tuple(attacks), measure, targeted=targets is not None),
            *own,
        )
        task = make_task((epsilon / 2, epsilon), measure, tuple(images.shape[1:]), seed)
        bench = BatchAttack(model, images, labels, targets, task, MicroBatcher(32), "test")
        outcomes = dict(bench.run(chosen))
    worst = outcomes.pop("worst")
    clean = Clean(
        index=np.arange(len(images)),
        label=labels.numpy(),
        prediction=logits.argmax(1).numpy(),
        confidence=logits.softmax(1).amax(1).numpy(),
        target=np.full(len(images), -1) if targets is None else targets.numpy(),
    )
    results = Results(clean, outcomes, worst, (0.0, *task.epsilons), task.epsilon)
    places = tuple(np.flatnonzero(results.correct)[:SAMPLE].tolist())
    run = AttackRun(
        model=LoadedModel(
            name="test",
            module=PixelModel(module, (0.0,) * images.shape[1], (1.0,) * images.shape[1]),
            input=InputSpec(tuple(images.shape[1:]), crop=1.0),
            num_classes=classes,
            class_names=None,
            domain="digits",
            device=torch.device("cpu"),
            memory_format=torch.contiguous_format,
            provenance=Provenance("test", "made for the test"),
            factory=lambda: module,
        ),
        attacked=model,
        images=image_set(images, labels),
        attacks=chosen,
        task=task,
        target=None,
        batch_size=32,
        memory=MicroBatcher(32),
        journal=NOTHING,
        progress=SILENT,
    )
    space = AdversarialWorkspace(run, AdversarialConfig(seed=seed), results)
    return Evidence(space, places, modes, stuck)


def image_set(images: Tensor, labels: Tensor) -> ImageSet:
    """The images as they are, (N, C, H, W)."""
    pixels = images.numpy()
    items = [Item(f"image {i}", int(labels[i]), lambda i=i: pixels[i]) for i in range(len(pixels))]
    return ImageSet("test", items, None, "digits", framed=True, shape=pixels.shape[1:])
