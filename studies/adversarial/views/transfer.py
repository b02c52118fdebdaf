"""Do images made against one network mislead another?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.attacks.families.gradient import PGD
from probe.attacks.judge import judge
from probe.core.errors import NotApplicableError
from probe.core.report import Axis, Cell, Column, Figure, Result, Section, Table
from probe.core.seeds import generator
from probe.core.stats import wilson
from probe.models.loaded import LoadedModel
from studies.adversarial.campaign import attacked_model
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import Workspace


@dataclass(frozen=True)
class _Side:
    """One network with the sample as it sees it: names unique, images, and who is right without attack."""

    name: str
    model: LoadedModel
    images: Tensor
    right: Tensor


@VIEWS.register("transfer")
def transfer(space: Workspace) -> Section:
    """Carry adversarial images over to other networks: the source × target matrix."""
    if not space.transfer:
        raise NotApplicableError("No other network was named: --transfer-to MODEL,MODEL.")
    if not space.sample:
        raise NotApplicableError("No image is right without attack.")
    labels = space.labels(space.sample)
    sides = _sides(space, labels)
    with space.progress.task("Transfer", len(sides)) as advance:
        made = []
        for side in sides:
            made.append(_attack(space, side, labels))
            advance(1)
    cells = [
        [_cell(moved, source, target, labels) for target in sides]
        for source, moved in zip(sides, made, strict=True)
    ]
    return _section(space, sides, cells)


def _sides(space: Workspace, labels: Tensor) -> tuple[_Side, ...]:
    sides, names = [], set()
    for model in (space.model, *space.transfer):
        name = model.name
        while name in names:
            name += "′"
        names.add(name)
        images = torch.stack(
            [space.images.get(int(space.results.clean.index[place]), model.input) for place in space.sample]
        ).to(model.device)
        right = model.logits(images, space.config.batch_size).argmax(1) == labels.to(model.device)
        sides.append(_Side(name, model, images, right.cpu()))
    return tuple(sides)


def _attack(space: Workspace, side: _Side, labels: Tensor) -> Tensor:
    """Return the sample attacked through one network with all of epsilon, stopping at nothing."""
    attacked = attacked_model(side.model, space.config.reduced)
    attack, parts = PGD(steps=20, stop=False), []
    rows = torch.arange(len(labels))
    for number, part in enumerate(torch.split(rows, space.config.batch_size)):
        images, own = side.images[part], labels[part].to(side.images.device)
        draws = generator(space.config.seed, "transfer", side.name, number)
        proposed = attack.perturb(attacked, images, own, space.norm, space.epsilon, draws)
        parts.append(judge(attacked, images, proposed, own, space.norm, space.epsilon).images)
    return torch.cat(parts)


def _cell(moved: Tensor, source: _Side, target: _Side, labels: Tensor) -> tuple[int, int]:
    """Return (broken, right before) on the target among images that the target names right."""
    pixels = moved
    if source.model.input.size != target.model.input.size:
        # The perturbation is carried over, not the picture: each network sees its own crop of the original.
        delta = (
            (moved - source.images).mean(1, keepdim=True)
            if source.images.shape[1] != target.images.shape[1]
            else moved - source.images
        )
        size = [int(side) for side in target.images.shape[2:]]
        wide = F.interpolate(delta, size=size, mode="bilinear", align_corners=False, antialias=True)
        pixels = (target.images + wide.to(target.images)).clamp(0, 1)
    answers = target.model.logits(pixels).argmax(1).cpu()
    right = target.right
    return int(((answers != labels.cpu()) & right).sum()), int(right.sum())


def _section(space: Workspace, sides: tuple[_Side, ...], cells: list[list[tuple[int, int]]]) -> Section:
    names = tuple(side.name for side in sides)
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
        "Part of the images broken",
        "heatmap",
        Axis("tested on", categories=names),
        Axis("made against", categories=names),
        "Rows: the network that the images were made against. Columns: the network that they were "
        "tried on. The diagonal is the "
        "white-box attack. A dark row off the diagonal is a source whose images mislead others; a pale column is a "
        "network that others' images do not reach, which says nothing about attacks made for it.",
        matrix=tuple(tuple(broken / n if n else 0.0 for broken, n in line) for line in cells),
        value_label="part of the images broken",
    )
    table = Table(
        "Transfer, in numbers",
        (
            Column("Made against"),
            Column("Tested on"),
            Column("Broken"),
            Column("of", help="Images that the tested network names right without attack."),
            Column("Rate", proportion=True),
            Column("low", proportion=True, help="Lower end of the 95% Wilson interval."),
            Column("high", proportion=True, help="Upper end of the 95% Wilson interval."),
        ),
        tuple(rows),
        f"PGD of 20 steps with all of {space.words(space.epsilon)} that climbs on after its first "
        "success. Where networks take "
        "images of different size, the perturbation is resized.",
    )
    return Section("transfer", "Transfer", blocks=(figure, table), results=tuple(results))
