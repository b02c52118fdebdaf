"""Judging attribution maps: our metrics beside those of the library quantus, on the same maps, network and images.

Run with ``make bench`` or ``python tests/benchmarks/bench_attribution.py``. quantus needs OpenCV and scikit-image, and is no
dependency of this repository; where it cannot be imported (``pip install quantus``) only our own times are told. The definitions
differ, so beside the times stands Spearman's rank correlation over images × methods, 1 where both say the same:

- sparseness: the Gini index of Σ |map| on both sides, equal up to rounding;
- max-sensitivity: ours is relative to the map, quantus' to the image; both with the same number of noisy images;
- deletion: ours removes square cells at eight shares, quantus flips seven groups of pixels one after the other; the area
  under the curve, the mean colour in place of what is removed on both sides;
- pointing game: our share of the positive evidence in the quarter of a mosaic beside quantus' relevance mass in a mask, and
- ROAD: our imputation of removed cells beside quantus' of removed pixels, on the same small images; both should be equal;
- infidelity: ours after the best scale, as a share of the drops, for rectangles; quantus' is absolute, for squares.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from networks import resnet18
from scipy.stats import spearmanr
from torch import Tensor

from probe.core import seeds
from studies.filters.attribution.attribute import (
    GradCam,
    Gradient,
    IntegratedGradients,
    Method,
    in_batches,
    prepare,
)
from studies.filters.attribution.bench import DRAWS, RADIUS, SHARES, Bench, Mosaics, area, gini
from studies.filters.attribution.cells import imputed

IMAGES, SEED = 8, 0
METHODS: tuple[Method, ...] = (Gradient(), IntegratedGradients(), GradCam())

Score = Callable[[Method, Tensor], Any]


def main() -> None:
    """Print seconds of both sides for each metric, their ratio, and how well they agree."""
    with seeds.scoped(SEED, "attribution benchmark"):
        images = torch.rand(IMAGES, 3, 224, 224) * torch.rand(IMAGES, 3, 1, 1)
    module = resnet18()
    with torch.no_grad():
        targets = module(images).argmax(1)
    bench, subject = Bench(module, images, targets, SEED), prepare(module, images[:1])
    maps = {method: in_batches(method, subject, images, targets) for method in METHODS}

    def attribute(method: Method, x: Tensor) -> Tensor:
        return in_batches(method, subject, x, targets[: len(x)])

    ours: dict[str, Score] = {
        "sparseness": lambda method, found: gini(found),
        "max-sensitivity": lambda method, found: bench.sensitivity(lambda x: attribute(method, x), found),
        "deletion": lambda method, found: area(bench.deletion(bench.ranks(method, found))),
        "infidelity": lambda method, found: bench.infidelity(method, found),
    }
    theirs = _theirs(module, images, targets, attribute) if importlib.util.find_spec("quantus") else {}
    if not theirs:
        print("quantus is not installed (pip install quantus): our own times only.")
    print(
        f"{'metric':<16} {'ours':>8} {'quantus':>8} {'ratio':>7} {'agreement':>10}   s for {IMAGES} images, {len(METHODS)} methods"
    )
    for name, score in ours.items():
        mine, seconds = _all(score, maps)
        if name not in theirs:
            print(f"{name:<16} {seconds:8.2f}")
            continue
        other, longer = _all(theirs[name], maps)
        known = np.isfinite(mine) & np.isfinite(other)
        agreement = spearmanr(mine[known], other[known]).statistic
        print(f"{name:<16} {seconds:8.2f} {longer:8.2f} {longer / seconds:6.1f}× {agreement:10.3f}")
        if name == "sparseness":
            print(f"{'':<16} largest difference {np.abs(mine - other).max():.1e}")
    if theirs:
        print(f"pointing game    largest difference {_pointing():.1e}")
        print(f"ROAD imputation  largest difference {_imputation():.1e}")


def _pointing() -> float:
    """Return the largest difference of the shares of evidence in the quarters of mosaics."""
    import quantus

    evidence = torch.randn(8, 20, 20, generator=seeds.generator(SEED, "pointing"), dtype=torch.float64)
    mosaics = Mosaics(torch.zeros(2, 3, 20, 20), torch.zeros(2, 4, dtype=torch.long))
    masks = np.zeros((8, 1, 20, 20), dtype=bool)
    for number in range(8):
        row, column = divmod(number % 4, 2)
        masks[number, 0, 10 * row : 10 * row + 10, 10 * column : 10 * column + 10] = True
    metric = quantus.RelevanceMassAccuracy(
        abs=False, normalise=False, disable_warnings=True, display_progressbar=False
    )
    positive = evidence.clamp_min(0)[:, None].numpy()
    other = metric(
        model=None,
        x_batch=np.zeros((8, 3, 20, 20)),
        y_batch=np.zeros(8, int),
        a_batch=positive,
        s_batch=masks,
    )
    return float(np.abs(mosaics.shares(evidence) - np.asarray(other)).max())


def _imputation() -> float:
    """Return the largest difference of images with imputed pixels."""
    from quantus.functions.perturb_func import noisy_linear_imputation

    rng, differences = np.random.default_rng(SEED), []
    for _ in range(20):
        image, gone = rng.random((3, 16, 16)), rng.random((16, 16)) < 0.4
        theirs = noisy_linear_imputation(image, np.flatnonzero(gone), noise=0.0)
        differences.append(np.abs(imputed(image, gone, np.zeros_like(image)) - theirs).max())
    return float(max(differences))


def _all(score: Score, maps: dict[Method, Tensor]) -> tuple[np.ndarray[Any, Any], float]:
    started = time.perf_counter()
    found = [np.asarray(score(method, each), dtype=np.float64) for method, each in maps.items()]
    return np.concatenate(found), time.perf_counter() - started


def _theirs(
    module: torch.nn.Module, images: Tensor, targets: Tensor, attribute: Callable[[Method, Tensor], Tensor]
) -> dict[str, Score]:
    import quantus

    warnings.filterwarnings("ignore", module="quantus")
    x, y = images.numpy(), targets.numpy()
    quiet = {"disable_warnings": True, "display_progressbar": False}
    step = images[0, 0].numel() // (len(SHARES) - 1)

    def call(metric: Any, method: Method, found: Tensor, **more: Any) -> Any:
        maps = found.abs().sum(1, keepdim=True) if more.pop("sizes", False) else found.sum(1, keepdim=True)
        return metric(model=module, x_batch=x, y_batch=y, a_batch=maps.detach().numpy(), device="cpu", **more)

    def explain(method: Method) -> Callable[..., Any]:
        def of(model: Any, inputs: Any, targets: Any, **_: Any) -> Any:
            return (
                attribute(method, torch.as_tensor(inputs, dtype=torch.float32))
                .detach()
                .sum(1, keepdim=True)
                .numpy()
            )

        return of

    def deletion(method: Method, found: Tensor) -> Any:
        metric = quantus.PixelFlipping(
            features_in_step=step, perturb_baseline="mean", normalise=False, **quiet
        )
        # Its own area calls np.trapz, which NumPy has no more: the mean of the curve is the area but for a constant.
        return np.asarray(call(metric, method, found, softmax=True)).reshape(len(found), -1).mean(1)

    return {
        "sparseness": lambda method, found: call(
            quantus.Sparseness(normalise=False, **quiet), method, found, sizes=True
        ),
        "max-sensitivity": lambda method, found: call(
            quantus.MaxSensitivity(nr_samples=DRAWS, lower_bound=RADIUS, **quiet),
            method,
            found,
            explain_func=explain(method),
        ),
        "deletion": deletion,
        "infidelity": lambda method, found: call(
            quantus.Infidelity(
                perturb_patch_sizes=[56], n_perturb_samples=1, perturb_baseline="mean", **quiet
            ),
            method,
            found,
        ),
    }


if __name__ == "__main__":
    main()
