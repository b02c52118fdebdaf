"""Checks that every study makes: the preprocessing is known, and an image's answer is its own."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor

from probe.core.document import Check
from probe.core.errors import CannotRunError
from probe.core.seeds import scoped
from probe.core.state import kept_buffers, training_mode
from probe.core.stats import wilson
from probe.core.subject import DataInfo
from probe.data.images import ImageSet
from probe.models.loaded import LoadedModel

BATCH = "Batch dependence"
SAMPLE = 8
ACCEPTED = 1e-3
"""Accepted difference between an image's logits alone and in a batch, as a part of the largest |logit|."""


def check_preprocessing(info: DataInfo) -> Check:
    """Check whether the preprocessing is known to be that of the training; the value is how many parts are not."""
    name, preprocessing = "Assumed preprocessing", info.preprocessing
    n = len(preprocessing.assumed)
    if not n:
        detail = f"{n} parts of the preprocessing had to be assumed: the images were {preprocessing.text}."
        return Check(name, "pass", n, detail)
    listed = " and ".join(preprocessing.assumed)
    detail = (
        f"{n} of 3 parts of the preprocessing were assumed, not known ({listed}; accepted: none): the images were "
        f"{preprocessing.text}; if the network was trained otherwise, set {preprocessing.how_to_fix}."
    )
    return Check(name, "warn", n, detail)


def guessing(model: LoadedModel, correct: int, n: int) -> tuple[str, ...]:
    """Caution where a trained network is not measurably better than guessing on ``n`` labelled images; else empty."""
    chance = 1 / model.num_classes
    if not n or wilson(correct, n)[0] > chance or model.provenance.weights.startswith("random"):
        return ()
    return (
        f"{correct} of {n} images are classified correctly: not measurably more than guessing among {model.num_classes} "
        f"classes would ({100 * chance:.2g}%). Normalisation, resizing, the order of the classes or the weights may not be "
        "those of the training (see --mean, --std, --resize, --class-map, --weights).",
    )


def first_images(model: LoadedModel, images: ImageSet, n: int = SAMPLE) -> Tensor:
    """Return the first readable images, at most ``n``, on the model's device."""
    batch = next(iter(images.batches(model.input, min(n, len(images)))))
    return batch.images.to(model.device, memory_format=model.memory_format)


def check_batch_dependence(model: LoadedModel, images: Tensor, seed: int) -> Check:
    """Compare each image's logits alone with those in a batch.

    They differ where batch normalisation has no running statistics, where forward switches to train mode, or where
    images are mixed. The logits of the whole batch are computed twice before and once after: where these differ, the
    outputs are random or drift, and the check does not apply. The value is the number of images whose logits differ by
    more than 0.001 of the largest.
    """
    n = len(images)
    if n < 2:
        return Check(
            BATCH, "not applicable", None, "There is only one image, so that no other can influence it."
        )
    with ExitStack() as stack:
        stack.enter_context(training_mode(model.module, False))
        stack.enter_context(kept_buffers(model.module))
        stack.enter_context(scoped(seed, "check", "batch"))
        stack.enter_context(torch.no_grad())
        together = model.module(images).float()
        again = model.module(images).float()
        try:
            alone = torch.cat([model.module(image).float() for image in torch.split(images, 1)])
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            detail = f"The network does not accept a single image ({lines[0].rstrip('.')}), so its answer needs a batch."
            return Check(BATCH, "fail", n, detail)
        last = model.module(images).float()
    largest = together.abs().amax(1).clamp_min(1e-12)
    drift = torch.maximum((again - together).abs().amax(1), (last - together).abs().amax(1))
    if bool((drift > ACCEPTED * largest).any()):
        reason = (
            "The outputs are random or drift: the same batch gets different logits in repeated passes, so that the influence "
            "of other images cannot be told."
        )
        return Check(BATCH, "not applicable", None, reason)
    different = (alone - together).abs().amax(1) > ACCEPTED * largest
    n_different, n_changed = int(different.sum()), int((alone.argmax(1) != together.argmax(1)).sum())
    detail = (
        f"{n_different} of {n} images get logits that differ by more than {ACCEPTED:g} of the largest between alone and in "
        f"a batch with the others, and {n_changed} another class (accepted: none)"
    )
    if n_different:
        detail += (
            ": the answer for an image depends on the other images, so every number here depends on the batches; look for "
            "batch normalisation without running statistics, or train() inside forward"
        )
    return Check(BATCH, "fail" if n_different else "pass", n_different, f"{detail}.")


def check_gradients(model: LoadedModel, images: Tensor, seed: int) -> Check:
    """Check whether a gradient of the logits reaches the pixels; the value is the number of images without one."""
    n = len(images)
    with ExitStack() as stack:
        stack.enter_context(training_mode(model.module, False))
        stack.enter_context(kept_buffers(model.module))
        stack.enter_context(scoped(seed, "check", "gradient"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        pixels = images.detach().clone().requires_grad_()
        top = model.module(pixels).amax(1)
        gradient = None
        if top.requires_grad:
            (gradient,) = torch.autograd.grad(top.sum(), pixels, allow_unused=True)
    n_without = n if gradient is None else int((gradient.flatten(1) == 0).all(1).sum())
    detail = (
        f"For {n_without} of {n} images no gradient of the largest logit reaches the pixels (accepted: none)"
    )
    if n_without:
        detail += (
            ": attributions and optimised pictures cannot be made from it; look for torch.no_grad, detach, rounding or argmax "
            "inside the network"
        )
    return Check("Gradient to the pixels", "warn" if n_without else "pass", n_without, f"{detail}.")


def study_checks(model: LoadedModel, images: ImageSet, info: DataInfo, seed: int) -> tuple[Check, ...]:
    """Return the checks of a study that has no others: of the preprocessing, of the batches, and of the gradient."""
    try:
        first = first_images(model, images)
    except CannotRunError as error:  # they could be read before
        return check_preprocessing(info), Check(BATCH, "not applicable", None, str(error))
    return (
        check_preprocessing(info),
        check_batch_dependence(model, first, seed),
        check_gradients(model, first, seed),
    )
