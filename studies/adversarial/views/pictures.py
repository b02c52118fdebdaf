"""Pictures of the attack: original, perturbation, adversarial image, at every epsilon."""

from __future__ import annotations

from torch import Tensor

from probe.attacks.judge import Judgement
from probe.attacks.norms import shown
from probe.core.blocks import Picture, SteppedGallery, Strip
from probe.core.document import Section, percent
from probe.core.errors import NotApplicableError
from probe.report.raster import magnified
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace

_SIDE = 176


@VIEWS.register("pictures", order=4)
def pictures(space: AdversarialWorkspace) -> Section:
    """Show original, perturbation and adversarial image, with a slider over the epsilons."""
    places = space.look()
    images, steps, verdicts = space.pictured
    if not steps:
        raise NotApplicableError("There is no epsilon above 0.")
    clean = space.attacked.verdict(images).double().softmax(1)
    rows = tuple(
        tuple(
            _strip(space, place, row, epsilon, images[row], clean[row], verdict, first=number == 0)
            for number, (epsilon, verdict) in enumerate(zip(steps, verdicts, strict=True))
        )
        for row, place in enumerate(places)
    )
    slides = SteppedGallery(
        "Original, perturbation, adversarial",
        tuple(f"ε = {shown(epsilon, space.norm)}" for epsilon in steps),
        rows,
        "Move the slider to change epsilon. The perturbation is amplified by the factor below it; mid-grey means "
        f"no change. Made by PGD, which uses all of epsilon in {space.norm.name} and continues after its first "
        "success, so that you see how confident of its mistake the network can become. Good: the prediction does "
        "not change until you can see the perturbation yourself.",
        _SIDE,
        len(steps) - 1,
    )
    return Section("pictures", "Pictures", blocks=(slides,))


def _strip(
    space: AdversarialWorkspace,
    place: int,
    row: int,
    epsilon: float,
    image: Tensor,
    clean: Tensor,
    verdict: Judgement,
    first: bool,
) -> Strip:
    name, label = space.item_name(place), int(space.results.clean.label[place])
    adversarial = verdict.images[row]
    delta = adversarial - image
    before, after = int(clean.argmax()), int(verdict.predictions[row])
    size = float(space.norm.size(delta[None])[0])
    peak = float(delta.abs().max())
    factor = 0.5 / peak if peak > 0 else 1.0
    word = "broken" if bool(verdict.success[row]) else "not broken by this PGD"
    prediction = f"{space.class_name(after)} {percent(float(verdict.confidences[row]))}"
    return Strip(
        (
            Picture(
                magnified(image.cpu(), _SIDE),
                f"{name} without attack",
                f"original: {space.class_name(before)} {percent(float(clean[before]))}",
                pixelated=min(image.shape[1:]) < _SIDE // 2,
            ),
            Picture(
                magnified((0.5 + factor * delta).cpu(), _SIDE),
                f"the perturbation of {name}, amplified {factor:.3g} times",
                f"perturbation × {factor:.3g}",
                pixelated=min(image.shape[1:]) < _SIDE // 2,
            ),
            Picture(
                magnified(adversarial.cpu(), _SIDE),
                f"{name} with the perturbation added",
                f"adversarial: {prediction}",
                f"image/{place}" if first else "",
                pixelated=min(image.shape[1:]) < _SIDE // 2,
            ),
        ),
        space.short_name(place),
        f"{_truth(space, label, before)} {space.norm.name} size {size:.3g}: {word}.",
        compare=(0, 2),
    )


def _truth(space: AdversarialWorkspace, label: int, before: int) -> str:
    if not space.images.labelled:
        return ""
    class_name = space.class_name(label)
    return (
        f"True class: {class_name}."
        if before == label
        else f"True class: {class_name}, misclassified without attack."
    )
