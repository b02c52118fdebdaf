"""Randomised smoothing (Cohen 2019): a classifier that votes over Gaussian noise, and the L2 radius within which its answer is proved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.certify.options import Smoothing

ABSTAINED = -1
"""The class of an answer that the votes do not settle."""

Logits = Callable[[Tensor], Tensor]
"""From images (N, C, H, W) to logits (N, classes)."""


@dataclass(frozen=True)
class Certificate:
    """The smoothed classifier's answer for one image, ``ABSTAINED`` if unsettled, and the L2 radius that is proved for it."""

    answer: int
    radius: float


def certificate(logits: Logits, image: Tensor, options: Smoothing, draws: torch.Generator) -> Certificate:
    """Return the certificate of one image (C, H, W) in [0, 1]: wrong with a probability of at most ``options.alpha``.

    ``options.n0`` votes choose the class, ``options.n`` others bound its probability by Clopper and Pearson's interval. Noise is not
    clipped, as published. Source: Cohen, Rosenfeld and Kolter 2019, procedure CERTIFY.
    """
    first = votes(logits, image, options, options.n0, draws)
    answer = int(first.argmax())
    successes = int(votes(logits, image, options, options.n, draws)[answer])
    probability = clopper_pearson_lower(successes, options.n, options.alpha)
    if probability <= 0.5:
        return Certificate(ABSTAINED, 0.0)
    return Certificate(answer, options.sigma * _quantile(probability))


def predict(logits: Logits, image: Tensor, options: Smoothing, draws: torch.Generator) -> int:
    """Return the smoothed classifier's class for one image, ``ABSTAINED`` where the two most frequent ones may be level.

    Source: Cohen, Rosenfeld and Kolter 2019, procedure PREDICT: a two-sided test at ``options.alpha`` on ``options.n`` votes.
    """
    from scipy.stats import binomtest

    counts, classes = votes(logits, image, options, options.n, draws).topk(2)
    most, second = int(counts[0]), int(counts[1])
    settled = binomtest(most, most + second, 0.5).pvalue <= options.alpha
    return int(classes[0]) if settled else ABSTAINED


def votes(logits: Logits, image: Tensor, options: Smoothing, n: int, draws: torch.Generator) -> Tensor:
    """Return how often each class is the answer for ``n`` noisy copies of an image (C, H, W), (classes,), on the CPU."""
    total: Tensor | None = None
    for start in range(0, n, options.batch):
        noise = torch.randn(min(options.batch, n - start), *image.shape, generator=draws).to(image)
        answers = logits(image + options.sigma * noise)
        counts = answers.argmax(1).bincount(minlength=answers.shape[1]).cpu()
        total = counts if total is None else total + counts
    assert total is not None, "n is positive"
    return total


def attacked(
    logits: Logits,
    image: Tensor,
    label: int,
    epsilon: float,
    options: Smoothing,
    draws: torch.Generator,
    *,
    steps: int = 20,
    samples: int = 8,
) -> Tensor:
    """Return an image within L2 ``epsilon`` and [0, 1] for which fewer noisy copies should be ``label``, (C, H, W).

    Projected gradient ascent on −log of the mean probability over ``samples`` draws of noise, new ones in every step (expectation
    over transformation). Source: Salman et al. 2019, SmoothAdv.
    """
    moved = image.clone()
    for step in range(steps):
        noise = torch.randn(samples, *image.shape, generator=draws).to(image)
        x = moved.clone().requires_grad_()
        with torch.enable_grad():
            chosen = logits(x + options.sigma * noise).log_softmax(1)[:, label]
            (gradient,) = torch.autograd.grad(-(chosen.logsumexp(0) - math.log(samples)), x)
        length = epsilon * (2.5 / steps if step < steps - 1 else 1 / steps)
        delta = moved + length * gradient / gradient.norm().clamp_min(1e-12) - image
        moved = (image + delta * (epsilon / delta.norm().clamp_min(1e-12)).clamp_max(1.0)).clamp(0, 1)
    return moved


def clopper_pearson_lower(successes: int, n: int, alpha: float) -> float:
    """Return the one-sided lower confidence limit of a proportion at level 1 − ``alpha`` (Clopper and Pearson 1934)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, n, alternative="greater").proportion_ci(1 - alpha, method="exact")
    return float(interval.low)


def _quantile(probability: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(probability))
