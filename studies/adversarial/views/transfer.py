"""Transfer of adversarial images from one network to another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.attacks.base import AttackInputs
from probe.attacks.families.gradient import PGD
from probe.attacks.losses import adversarial, pick
from probe.core.blocks import Axis, Cell, Column, Figure, Table
from probe.core.document import Result, Section
from probe.core.errors import NotApplicableError
from probe.core.seeds import generator
from probe.core.stats import wilson
from probe.data.spec import UnreadableError
from probe.models.loaded import LoadedModel
from studies.adversarial.attack_run import attacked_model
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace


@dataclass(frozen=True)
class _Side:
    """One network and the sample in its input format; ``name`` is unique.

    ``robust`` (N,): images classified correctly without attack, or in a targeted run not in their target class.
    """

    name: str
    model: LoadedModel
    images: Tensor
    robust: Tensor


@VIEWS.register("transfer", order=8)
def transfer(space: AdversarialWorkspace) -> Section:
    """Test adversarial images on other networks: the source × target matrix."""
    if not space.transfer:
        raise NotApplicableError("No other network was given: use --transfer-to MODEL,MODEL.")
    if not space.sample:
        raise NotApplicableError(f"{space.phrases.nobody}.")
    labels, targets = space.labels(space.sample), space.targets(space.sample)
    sides = _sides(space, labels, targets)
    with space.progress.task("Transfer", len(sides)) as advance:
        images = []
        for side in sides:
            images.append(_attack(space, side, labels, targets))
            advance(1)
    cells = [
        [_cell(moved, source, target, labels, targets) for target in sides]
        for source, moved in zip(sides, images, strict=True)
    ]
    return _section(space, sides, cells)


def _sides(space: AdversarialWorkspace, labels: Tensor, targets: Tensor | None) -> tuple[_Side, ...]:
    sides, names = [], set()
    for model in (space.model, *space.transfer):
        name = model.name
        while name in names:
            name += "′"
        names.add(name)
        indices = [int(space.results.clean.index[place]) for place in space.sample]
        try:
            pixels = [space.images.get(index, model.input) for index in indices]
        except UnreadableError as error:
            raise NotApplicableError(f"An image of the sample can no longer be read: {error}.") from error
        images = torch.stack(pixels).to(model.device)
        logits = model.logits(images, space.config.batch_size).to(labels.device)
        sides.append(_Side(name, model, images, ~adversarial(logits, labels, targets).cpu()))
    return tuple(sides)


def _attack(space: AdversarialWorkspace, side: _Side, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Return the sample attacked on one network by a PGD that uses all of epsilon and does not stop at success."""
    attacked = attacked_model(side.model, space.config.bf16)
    attack, parts = PGD(steps=20, stop=False), []
    targets = None if targets is None else targets.to(side.images.device)
    rows = torch.arange(len(labels))
    for number, part in enumerate(torch.split(rows, space.config.batch_size)):
        images, own = side.images[part], labels[part].to(side.images.device)
        draws, goal = generator(space.config.seed, "transfer", side.name, number), pick(targets, part)
        inputs = AttackInputs(attacked, images, own, space.norm, space.epsilon, draws, goal)
        parts.append(attack.judged(inputs).images)
    return torch.cat(parts)


def _cell(
    moved: Tensor, source: _Side, target: _Side, labels: Tensor, targets: Tensor | None
) -> tuple[int, int]:
    """Return (broken, robust before) on the tested network; targeted, broken means moved to the target class."""
    pixels = moved
    if source.model.input != target.model.input:
        # The perturbation is carried over, not the picture: each network sees its own crop of the original.
        delta = (
            (moved - source.images).mean(1, keepdim=True)
            if source.images.shape[1] != target.images.shape[1]
            else moved - source.images
        )
        size = [int(side) for side in target.images.shape[2:]]
        wide = F.interpolate(delta, size=size, mode="bilinear", align_corners=False, antialias=True)
        pixels = (target.images + wide.to(target.images)).clamp(0, 1)
    broken = adversarial(target.model.logits(pixels).to(labels.device), labels, targets).cpu()
    robust = target.robust
    return int((broken & robust).sum()), int(robust.sum())


def _of_help(space: AdversarialWorkspace) -> str:
    if space.config.target is not None:
        return "Images that the tested network does not assign to the target class without attack."
    if not space.images.labelled:
        return f"Images on which the tested network agrees with {space.model.name} without attack."
    return "Images that the tested network classifies correctly without attack."


def _target_note(space: AdversarialWorkspace) -> str:
    if space.config.target is not None:
        return " All networks are attacked with the same target classes; an image that moves to another class does not count."
    if not space.images.labelled:
        return f" An image counts as broken when its class differs from the prediction of {space.model.name} without attack."
    return ""


def _section(
    space: AdversarialWorkspace, sides: tuple[_Side, ...], cells: list[list[tuple[int, int]]]
) -> Section:
    names = tuple(side.name for side in sides)
    happens = space.phrases.broken
    rows: list[tuple[Cell, ...]] = []
    results = []
    for source, line in zip(names, cells, strict=True):
        for target, (broken, n) in zip(names, line, strict=True):
            low, high = wilson(broken, n)
            rows.append((source, target, broken, n, broken / n if n else None, low, high))
            results.append(
                Result.proportion(f"transfer:{source}->{target}", broken, n, higher_is_better=False)
            )
    figure = Figure(
        f"Part of the images {happens}",
        "heatmap",
        Axis("tested on", categories=names),
        Axis("made against", categories=names),
        "Rows: the network that was attacked. Columns: the network on which the images were tested. The diagonal "
        "is the white-box attack. A row that is dark off the diagonal is a source whose images also mislead "
        "others; a pale column is a network that the others' images do not mislead, which says nothing about "
        "attacks on that network itself.",
        matrix=tuple(tuple(broken / n if n else 0.0 for broken, n in line) for line in cells),
        value_label=f"part of the images {happens}",
    )
    table = Table(
        "Transfer, in numbers",
        (
            Column("Made against", help="The network whose gradients were used."),
            Column("Tested on", help="The network that classified these images."),
            Column(
                "Broken" if space.config.target is None else "Moved",
                help="Images on which the attack succeeded there.",
            ),
            Column("of", help=_of_help(space)),
            Column("Rate", proportion=True, help="With its 95% Wilson interval beside it."),
            *Column.interval(proportion=True),
        ),
        tuple(rows),
        f"PGD with 20 steps that uses all of {space.words(space.epsilon)} and continues after its first success. "
        f"Where networks need images of different size or crop, the perturbation is resized.{_target_note(space)}",
    )
    return Section("transfer", "Transfer", blocks=(figure, table), results=tuple(results))
