"""Our corruptions beside the package ``imagecorruptions`` (Michaelis et al. 2019), which ports ImageNet-C to OpenCV and skimage.

``pip install --no-deps imagecorruptions`` and scikit-image, opencv-python-headless, numba, in an environment of its own: the package
was written for numpy 1, and what it misses is put in its place here. Not compared: elastic_transform (the package leaves
out the published affine map), and frost only by its distance (its photographs are not ours).
"""

from __future__ import annotations

import functools

import numpy as np
import torch

if not hasattr(np, "float_"):
    np.float_ = np.float64  # type: ignore[attr-defined]

from imagecorruptions import corrupt, corruptions
from numpy.typing import NDArray
from skimage.filters import gaussian

from probe.core.seeds import generator
from probe.data.corruptions import CORRUPTIONS
from probe.data.load import load_images
from probe.data.spec import InputSpec

SPEC = InputSpec((3, 224, 224))


@functools.wraps(gaussian)
def _gaussian(image, sigma, multichannel=False, **more):  # type: ignore[no-untyped-def]
    return gaussian(image, sigma, channel_axis=-1 if multichannel else None, **more)


def psnr(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(-10 * np.log10(np.mean((one - other) ** 2)))


def fine(image: NDArray[np.float64]) -> float:
    """The share of the variance in the difference of neighbouring pixels: a summary of the spectrum."""
    return float(np.mean(np.diff(image, axis=0) ** 2) / max(image.var(), 1e-9))


def main() -> None:
    corruptions.gaussian = _gaussian
    images = load_images("imagenet-samples").sample(4)
    clean = torch.stack([images.get(index, SPEC) for index in range(len(images))])
    arrays = [np.rint(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for image in clean]
    print(
        "kind severity | largest and mean difference in levels | PSNR to clean | mean | SD | fine detail: ours, package"
    )
    for kind in CORRUPTIONS:
        if kind == "elastic_transform":
            continue
        for severity in range(1, 6):
            np.random.seed(0)
            theirs = [corrupt(a, severity=severity, corruption_name=kind) / 255.0 for a in arrays]
            draws = [generator(0, index) for index in range(len(clean))]
            made = CORRUPTIONS.get(kind)().apply(clean, severity, draws).permute(0, 2, 3, 1).double().numpy()
            far = np.abs(made - np.stack(theirs)) * 255
            sides = [
                (
                    np.mean([psnr(x, a / 255.0) for x, a in zip(xs, arrays, strict=True)]),
                    np.mean(xs),
                    np.std(xs),
                    np.mean([fine(x) for x in xs]),
                )
                for xs in (list(made), theirs)
            ]
            pairs = " | ".join(f"{ours:.4g}, {other:.4g}" for ours, other in zip(*sides, strict=True))
            print(f"{kind} {severity} | {far.max():.0f}, {far.mean():.3f} | {pairs}", flush=True)


if __name__ == "__main__":
    main()
