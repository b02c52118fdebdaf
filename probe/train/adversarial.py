"""Adversarial training: each batch is replaced by, or held against, adversarial images from a short attack.

``pgd``: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018: the outer minimisation is
``probe.train.loop.fit``, the inner maximisation is projected gradient ascent (PGD) on the loss from a random start.
``trades``: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", 2019: the loss of the clean
images, and ``beta`` times how far the answers for perturbed images are from those for clean ones.
``fast``: Wong et al., "Fast is better than free", 2020: one step of 1.25 epsilon from a random start. It can overfit
catastrophically: the network learns to resist this step and nothing else. That is looked for after every epoch, and
where it is found, the training goes on with PGD (Li et al., "Towards Understanding Fast Adversarial Training", 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.attacks.norms import NORMS, Norm, get_norm, parse_epsilons
from probe.core.errors import UsageError, unknown
from probe.core.seeds import generator as seeded
from probe.core.state import frozen_parameters, training_mode
from probe.train.loop.fit import heads

TRAINABLE = ("Linf", "L2")
"""The norms in which gradient steps are meaningful."""

_LINF = {"digits": "0.2", "fashion-mnist": "0.1"}
_LINF_OTHERS = "8/255"
"""Default radii by data set: the class of an image remains obvious within these."""

ROBUST_STEPS = 20
"""Steps of the attack that measures robust accuracy after training."""

ROBUST_IMAGES = 200
"""Maximum number of held-out images for measuring robust accuracy."""

Method = Literal["pgd", "trades", "fast"]
METHODS: tuple[str, ...] = get_args(Method)

_STEPS: dict[str, int] = {"pgd": 7, "trades": 10, "fast": 1}
_STEP_SHARE = 2.5
_FAST_SHARE = 1.25

_BETA = 6.0
"""The weight that Zhang et al. 2019 chose for CIFAR-10."""

_CHECKING_STEPS = 10
CHECKED_IMAGES = 200
"""Training images on which overfitting to the single step is looked for, at most."""

_LEARNED = 0.2
"""Below this accuracy under its own single step, a network has learned too little to be called overfitted."""


@dataclass(frozen=True)
class Adversary:
    """The adversary of the training: perturbations within ``epsilon`` (pixel units) in ``norm``.

    The attack makes ``steps`` gradient steps of 2.5 · epsilon / steps, enough to reach any point of the ball from any
    other. During the first ``warm_up`` of the training the radius grows linearly from 0, because an untrained network
    learns little from worst cases. ``beta`` is the weight of the perturbed images for ``trades``.
    (lenet on digits at Linf 0.2: 94% clean and 43% robust accuracy after a warm-up of one half, 88% and 38% without.)
    """

    norm: Norm = NORMS["Linf"]
    epsilon: float = 0.2
    steps: int = _STEPS["pgd"]
    warm_up: float = 0.5
    method: Method = "pgd"
    beta: float = _BETA

    @property
    def shown(self) -> str:
        """The norm and the radius as text."""
        return f"{self.norm.name} {self.epsilon:.4g}"

    @property
    def step(self) -> float:
        """The length of a gradient step."""
        return (_FAST_SHARE if self.method == "fast" else _STEP_SHARE / self.steps) * self.epsilon


@dataclass(frozen=True)
class Passes:
    """How the attack runs the network: with bfloat16 autocast or not, and in which memory format."""

    bf16: bool = False
    memory_format: torch.memory_format = torch.contiguous_format


def adversary(
    norm: str | None,
    epsilon: str | None,
    steps: int | None,
    domain: str,
    method: str = "pgd",
    beta: float | None = None,
) -> Adversary:
    """Return the adversary for the user's options; None is the default.

    The default is Linf with a radius that depends on ``domain``, and 7 steps (10 for ``trades``). Raises UsageError for a
    norm without training support, a radius that is not a number in the norm's range, fewer than 1 step, and options
    that the method does not have.
    """
    if method not in METHODS:
        raise unknown("adversarial training", method, METHODS)
    if steps is not None and method == "fast":
        raise UsageError("--steps is for pgd and trades: fast makes one step.")
    if beta is not None and (method != "trades" or not (math.isfinite(beta) and beta > 0)):
        raise UsageError(f"--beta is for --adversarial trades, and must be above 0; got {beta:g}.")
    chosen = get_norm(norm or TRAINABLE[0])
    if chosen.name not in TRAINABLE:
        raise UsageError(
            f"Adversarial training does not support {chosen.name}: write --norm {' or '.join(TRAINABLE)}."
        )
    if epsilon is None and chosen.name != "Linf":
        raise UsageError(
            f"There is no default size of the perturbation in {chosen.name}: give --eps, for example --eps 1."
        )
    if steps is not None and steps < 1:
        raise UsageError(f"The attack needs at least 1 step, not {steps}.")
    text = epsilon if epsilon is not None else _LINF.get(domain, _LINF_OTHERS)
    return Adversary(
        chosen,
        radius(text, chosen),
        _STEPS[method] if steps is None else steps,
        method=cast(Method, method),
        beta=_BETA if beta is None else beta,
    )


def no_adversary(norm: str | None, epsilon: str | None, steps: int | None, beta: float | None = None) -> None:
    """Raise UsageError if options of adversarial training were given."""
    options = {"--norm": norm, "--eps": epsilon, "--steps": steps, "--beta": beta}
    first = next((name for name, value in options.items() if value is not None), None)
    if first is not None:
        raise UsageError(
            f"{first} is an option of adversarial training: add --adversarial, or remove {first}."
        )


def radius(text: str, norm: Norm) -> float:
    """Parse a radius such as ``0.2`` or ``8/255``; raises UsageError if it is invalid."""
    values = parse_epsilons(text, norm)
    if len(values) > 1 or values[0] == 0 or (norm.name == "Linf" and values[0] == 1):
        raise UsageError(
            f"--eps {text}: training needs a single radius above 0 and, for Linf, below 1, such as 8/255."
        )
    return values[0]


def worst_nearby(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    adversary: Adversary,
    generator: torch.Generator,
    passes: Passes = Passes(),
) -> Tensor:
    """Return images (N, C, H, W) within the ball and [0, 1] that increase the loss, found by PGD.

    For ``trades`` the loss is the divergence from the answers for the images themselves.

    The module is in eval mode during the attack, which Pang et al. 2021 ("Bag of Tricks for Adversarial Training")
    recommend: batch statistics of intermediate perturbations must not enter the running averages, and the attack must
    be on the network that will be used. (Madry et al. leave it in training mode.) Parameters are frozen during the
    attack; flags and gradients are restored. All randomness comes from ``generator``.
    """
    norm, epsilon = adversary.norm, adversary.epsilon
    with training_mode(module, False), frozen_parameters(module), torch.enable_grad():
        moved = norm.start(images, epsilon, generator)
        clean = None
        if adversary.method == "trades":
            with torch.no_grad():
                clean = _logits(module, images, passes)
        for _ in range(adversary.steps):
            moved.requires_grad_(True)
            logits = _logits(module, moved, passes)
            loss = (
                F.cross_entropy(logits, labels, reduction="sum")
                if clean is None
                else divergence(clean, logits)
            )
            (gradient,) = torch.autograd.grad(loss, moved)
            moved = norm.project(images, moved.detach() + adversary.step * norm.steepest(gradient), epsilon)
    return moved.detach()


def divergence(clean: Tensor, perturbed: Tensor) -> Tensor:
    """Return the sum over images of KL(softmax of ``clean`` ‖ softmax of ``perturbed``), both logits (N, K)."""
    return F.kl_div(perturbed.log_softmax(1), clean.log_softmax(1), reduction="sum", log_target=True)


def _logits(module: nn.Module, images: Tensor, passes: Passes) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=passes.bf16):
        outputs = module(images.contiguous(memory_format=passes.memory_format))
    return heads(outputs)[0].float()


class Perturbing:
    """The perturb function for ``probe.train.loop.fit``: the attack, with a radius that grows during warm-up.

    ``batches`` is the number of batches of the whole training, each of which is one call. The number of steps grows
    with the radius, so that the step size stays the same. ``overfitted`` is the epoch, from 1, after which a fast training was
    found to resist its single step only; from then on the adversary is PGD.
    """

    def __init__(
        self, adversary: Adversary, batches: int, generator: torch.Generator, passes: Passes
    ) -> None:
        self.adversary = adversary
        self.generator = generator
        self.passes = passes
        self._rising = adversary.warm_up * batches
        self._calls = 0
        self._epochs = 0
        self.overfitted: int | None = None

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return adversarial images for ``images``, within [0, 1] and the current radius."""
        now = self.current()
        self._calls += 1
        return (
            images if now is None else worst_nearby(module, images, labels, now, self.generator, self.passes)
        )

    def state(self) -> dict[str, Any]:
        """Return the state that the next call depends on."""
        return {
            "calls": self._calls,
            "epochs": self._epochs,
            "overfitted": self.overfitted,
            "generator": self.generator.get_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        self._calls, self._epochs = state["calls"], state["epochs"]
        if state["overfitted"] is not None:
            self._go_on_with_pgd(state["overfitted"])
        self.generator.set_state(state["generator"])

    def current(self) -> Adversary | None:
        """Return the adversary of the next call; None while its radius is 0."""
        full = self.adversary
        share = min(1.0, self._calls / self._rising) if self._rising else 1.0
        if share == 0:
            return None
        return replace(full, epsilon=share * full.epsilon, steps=max(1, math.ceil(share * full.steps)))

    def check(self, module: nn.Module, images: Tensor, labels: Tensor) -> None:
        """After an epoch of fast training, look whether the network resists more than the single step.

        It is overfitted where its accuracy under PGD is less than half of that under the step it was trained with.
        """
        self._epochs += 1
        now = self.current()
        if now is None or now.method != "fast":
            return
        draws = seeded(self._epochs, "overfitting")
        longer = replace(now, method="pgd", steps=_CHECKING_STEPS)
        single, several = (
            count_robust(module, images, labels, adversary, draws, self.passes) for adversary in (now, longer)
        )
        if single >= _LEARNED * len(labels) and several < single / 2:
            self._go_on_with_pgd(self._epochs)

    def _go_on_with_pgd(self, epoch: int) -> None:
        self.overfitted = epoch
        self.adversary = replace(self.adversary, method="pgd", steps=_STEPS["pgd"])


class PerturbingTrades(Perturbing):
    """The same for TRADES: the network is trained on the clean images, and ``penalty`` holds perturbed ones against them."""

    def penalty(self, module: nn.Module, logits: Tensor, moved: Tensor) -> Tensor:
        """Return beta times the mean divergence of the answers for ``moved`` images from the ``logits`` of clean ones."""
        return self.adversary.beta * divergence(logits, _logits(module, moved, self.passes)) / len(moved)


def count_robust(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    adversary: Adversary,
    generator: torch.Generator,
    passes: Passes,
    batch_size: int = 100,
) -> int:
    """Return how many images are correct both clean and under attack, in eval mode and float32."""
    device = next(module.parameters()).device
    robust = 0
    for x, y in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
        clean, labels_here = x.to(device), y.to(device)
        attacked = worst_nearby(module, clean, labels_here, adversary, generator, passes)
        with training_mode(module, False), torch.inference_mode():
            correct = [
                module(batch.contiguous(memory_format=passes.memory_format)).argmax(1) == labels_here
                for batch in (clean, attacked)
            ]
        robust += int((correct[0] & correct[1]).sum())
    return robust
