"""Concept activation vectors: directions in a layer that point to a concept, and which classes grow along them (TCAV).

A direction has one number a channel: maps are averaged over their positions, and moving along it means adding it at each.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.core import stats
from probe.core.errors import NotApplicableError, UsageError
from probe.core.state import forward_hooks, frozen_parameters
from probe.data.images import ImageSet
from probe.data.load import ALL, load_images
from probe.models.loaded import LoadedModel

Array = NDArray[np.float64]

_PENALTY = 0.1
"""scikit-learn's C of the classifiers, on activations with mean 0 and deviation 1."""

_SEPARATED = 5
"""How many counter-sets measure how well a concept can be told from other images."""

LEAST = 5
"""Fewer images of a concept give no direction worth a test."""


def load_concepts(folder: str | os.PathLike[str]) -> ImageSet:
    """Return the images of a folder with a subfolder for each concept; raises UsageError for one with too few images."""
    images = load_images(os.path.join(os.fspath(folder), ""), n=ALL)
    if not images.labelled or images.class_names is None:
        raise UsageError(
            f"{folder} is no folder of concepts: it needs a subfolder with images for each concept."
        )
    counts = np.bincount(
        [images.label(index) or 0 for index in range(len(images))], minlength=len(images.class_names)
    )
    for name, count in zip(images.class_names, counts, strict=True):
        if count < LEAST:
            raise UsageError(
                f"The concept '{name}' in {folder} has {count} images; a direction needs at least {LEAST}."
            )
    return images


def averaged(
    model: LoadedModel, batches: Iterator[Tensor], layers: Sequence[str], advance: Callable[[float], None]
) -> dict[str, Array]:
    """Return the maps of ``layers``, averaged over their positions, for all images: layer → (n, channels)."""
    found: dict[str, list[Array]] = {layer: [] for layer in layers}
    with torch.no_grad():
        for images in batches:
            with _outputs(model.network, layers) as outputs:
                model.module(images.to(model.device, memory_format=model.memory_format))
            for layer in layers:
                found[layer].append(outputs[layer].double().mean((2, 3)).cpu().numpy())
            advance(len(images))
    return {layer: np.concatenate(parts) for layer, parts in found.items()}


def sensitivities(
    model: LoadedModel,
    batches: Iterator[tuple[Tensor, Tensor]],
    layers: Sequence[str],
    advance: Callable[[float], None],
) -> dict[str, Array]:
    """Return layer → (n, channels): how the logit of an image's class grows where a channel does at every position.

    ``batches`` are images and the class of each. Raises NotApplicableError where the network has no gradients.
    """
    found: dict[str, list[Array]] = {layer: [] for layer in layers}
    for images, classes in batches:
        pixels = images.to(model.device, memory_format=model.memory_format).requires_grad_()
        with torch.enable_grad(), frozen_parameters(model.module), _outputs(model.network, layers) as outputs:
            logits = model.module(pixels)
            chosen = logits.gather(1, classes.to(logits.device)[:, None]).sum()
            try:
                gradients = torch.autograd.grad(
                    chosen, [outputs[layer] for layer in layers], allow_unused=True
                )
            except RuntimeError as error:
                raise NotApplicableError(f"The network's gradients cannot be computed: {error}") from error
        for layer, gradient in zip(layers, gradients, strict=True):
            known = torch.zeros_like(outputs[layer]) if gradient is None else gradient
            found[layer].append(known.double().sum((2, 3)).cpu().numpy())
        advance(len(images))
    return {layer: np.concatenate(parts) for layer, parts in found.items()}


@contextmanager
def _outputs(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the maps of layers by name; what follows them works on copies, so that nothing overwrites them."""
    found: dict[str, Tensor] = {}

    def keeping(layer: str) -> Callable[..., Tensor | None]:
        def keep(_module: nn.Module, _args: object, output: object) -> Tensor | None:
            if not (isinstance(output, Tensor) and output.dim() == 4):
                return None
            found[layer] = output
            return output.clone()

        return keep

    with forward_hooks(network, {layer: keeping(layer) for layer in layers}):
        yield found


def direction(concept: Array, others: Array) -> Array:
    """Return the unit vector (channels,) across the border between a concept's images and others, towards the concept.

    It is the normal of a logistic regression on activations (n, channels), or 0 where these say nothing.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    together = np.concatenate([concept, others])
    spread = together.std(0)
    scale = np.where(spread > 0, spread, np.inf)
    labels = np.r_[np.ones(len(concept)), np.zeros(len(others))]
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=_PENALTY, max_iter=500).fit(
            (together - together.mean(0)) / scale, labels
        )
    normal = fitted.coef_[0] / scale
    length = float(np.linalg.norm(normal))
    found: Array = normal / length if length > 0 else np.zeros(len(normal))
    return found


def score(gradients: Array, vector: Array) -> float:
    """Return the part of the images (n, channels) whose logit grows along the direction; one that does not change counts half."""
    along = gradients @ vector
    return float(((along > 0) + 0.5 * (along == 0)).mean())


@dataclass(frozen=True)
class Tested:
    """The TCAV scores of a concept against ``n`` sets of other images, for one layer and one class.

    ``mean`` with its 95% t-interval over these sets, ``control`` the mean for as many directions between two sets of other
    images, ``p`` of Welch's two-sided test of the two (1 where both never vary and agree, 0 where they do not agree).
    ``separable``: the part of held-out images on the right side of the border, over the first sets.
    """

    layer: str
    concept: str
    cls: str
    mean: float
    ci: tuple[float, float]
    control: float
    p: float
    n: int
    images: int
    separable: float


def against(scores: Sequence[float], controls: Sequence[float]) -> float:
    """Return the p-value of Welch's two-sided test that both have the same mean."""
    sides = [
        (float(np.mean(s)), float(np.std(s, ddof=1) / np.sqrt(len(s))), len(s)) for s in (scores, controls)
    ]
    tested = stats.welch(sides[0], sides[1])
    if tested is None:
        return 1.0 if sides[0][0] == sides[1][0] else 0.0
    return tested[0]


def held_out(concept: Array, others: Array, folds: int = 3) -> float:
    """Return the part of images on the right side of a border that was drawn without them."""
    right, places = 0, [np.arange(len(part)) % folds for part in (concept, others)]
    for fold in range(folds):
        kept = [part[place != fold] for part, place in zip((concept, others), places, strict=True)]
        left = [part[place == fold] for part, place in zip((concept, others), places, strict=True)]
        vector = direction(*kept)
        border = (kept[0].mean(0) + kept[1].mean(0)) @ vector / 2
        right += int((left[0] @ vector > border).sum() + (left[1] @ vector <= border).sum())
    return right / (len(concept) + len(others))


def counter_sets(
    count: int, size: int, sets: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return pairs of sets of ``size`` of ``count`` images that share none: counter-set, and one more for the control."""
    found = []
    for _ in range(sets):
        drawn = rng.permutation(count)[: 2 * size]
        found.append((drawn[:size], drawn[size:]))
    return found


def evaluate(
    concepts: Mapping[str, dict[str, Array]],
    others: dict[str, Array],
    gradients: Mapping[str, dict[str, Array]],
    pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    done: Callable[[], None],
) -> list[Tested]:
    """Test every concept in every layer for every class.

    ``concepts``: concept → layer → activations; ``others``: layer → activations of the images that counter-sets are drawn
    from; ``gradients``: class → layer → sensitivities.
    """
    found = []
    for layer, plain in others.items():
        controls = [direction(plain[first], plain[second]) for first, second in pairs]
        for concept, activations in concepts.items():
            own = activations[layer]
            drawn = [plain[first] for first, _ in pairs]
            vectors = [direction(own, part) for part in drawn]
            separable = float(np.mean([held_out(own, part) for part in drawn[:_SEPARATED]]))
            for name, sensitivity in gradients.items():
                scores = [score(sensitivity[layer], vector) for vector in vectors]
                chance = [score(sensitivity[layer], vector) for vector in controls]
                low, high = stats.t_interval(scores)
                found.append(
                    Tested(
                        layer,
                        concept,
                        name,
                        float(np.mean(scores)),
                        (max(0.0, low), min(1.0, high)),
                        float(np.mean(chance)),
                        against(scores, chance),
                        len(pairs),
                        len(sensitivity[layer]),
                        separable,
                    )
                )
            done()
    return found
