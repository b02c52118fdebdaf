"""The workspace: everything that the views of the adversarial study use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from probe.attacks.base import AttackInputs
from probe.attacks.families.gradient import PGD
from probe.attacks.judge import Judgement
from probe.attacks.losses import pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm, shown
from probe.attacks.select import SelectedAttack
from probe.core.errors import NotApplicableError
from probe.core.progress import Progress
from probe.core.seeds import generator
from probe.data.images import ImageSet
from probe.data.spec import UnreadableError
from probe.graph.edit.spelled import spelled
from probe.models.loaded import LoadedModel, PixelModel
from studies.adversarial.attack_run import AttackRun
from studies.adversarial.config import AdversarialConfig
from studies.adversarial.refine import ACCURACY, is_refined
from studies.adversarial.results import Phrases, Results, phrases_for

FULL_STEPS = 10
"""Steps of the PGD whose images are shown and transferred: enough to make the network confident of its mistake."""

_PICTURED = 6


@dataclass(frozen=True)
class AdversarialWorkspace:
    """A run of attacks, its results, and the pictures that its report shows.

    ``transfer`` are the models on which adversarial images are tested; ``against`` is another model with its own
    results on the same images. Pictures are identified by their position in ``results``.
    """

    run: AttackRun
    config: AdversarialConfig
    results: Results
    transfer: tuple[LoadedModel, ...] = ()
    against: tuple[LoadedModel, Results] | None = None

    @property
    def model(self) -> LoadedModel:
        """The model that was attacked."""
        return self.run.model

    @property
    def attacked(self) -> AttackedModel:
        """The model as attacks see it."""
        return self.run.attacked

    @property
    def images(self) -> ImageSet:
        """The images that were attacked."""
        return self.run.images

    @property
    def norm(self) -> Norm:
        """The norm of the perturbations."""
        return self.run.task.norm

    @property
    def attacks(self) -> tuple[SelectedAttack, ...]:
        """The attacks of the run."""
        return self.run.attacks

    @property
    def progress(self) -> Progress:
        """Where progress is shown."""
        return self.run.progress

    @property
    def phrases(self) -> Phrases:
        """The wording for this kind of run."""
        return phrases_for(targeted=self.config.target is not None, labelled=self.images.labelled)

    @property
    def epsilon(self) -> float:
        """The epsilon that is reported."""
        return self.results.epsilon

    @cached_property
    def spelled(self) -> PixelModel:
        """The network with a layer for every function that is one, for the views that look at layers."""
        return spelled(self.model.module, self.model.example())

    def words(self, epsilon: float) -> str:
        """Write an epsilon with its norm: ``Linf 8/255``."""
        return f"{self.norm.name} {shown(epsilon, self.norm)}"

    @cached_property
    def shown(self) -> tuple[int, ...]:
        """The images to show: the user's, or a seeded draw of images that can be broken, with the most robust one."""
        requested, results = self.config.images, self.results
        if not isinstance(requested, int):
            places = {int(index): place for place, index in enumerate(results.clean.index)}
            return self.readable(places[index] for index in dict.fromkeys(requested) if index in places)
        order = torch.randperm(results.n, generator=generator(self.config.seed, "shown")).tolist()
        attackable = [place for place in order if results.correct[place]]
        picked = attackable[:requested] or order[:requested]
        hardest = max(attackable, key=lambda place: float(results.worst.smallest[place]), default=None)
        if hardest is not None and hardest not in picked and len(picked) > 1:
            picked[-1] = hardest
        return self.readable(sorted(picked))

    def look(self) -> tuple[int, ...]:
        """Return ``shown``; raises NotApplicableError when none of the requested images is in the results."""
        if not self.shown:
            raise NotApplicableError(
                "None of the requested images was attacked: they could not be read, or belong to the target class."
            )
        return self.shown

    def readable(self, places: Iterable[int]) -> tuple[int, ...]:
        """Return those positions in ``results`` whose images can still be read."""
        index = {int(self.results.clean.index[place]): place for place in places}
        return tuple(index[number] for number in self.images.readable(index, self.model.input))

    def pixels(self, places: Sequence[int]) -> Tensor:
        """Return the images at positions in ``results`` as (N, C, H, W) on the model's device."""
        indices = [int(self.results.clean.index[place]) for place in places]
        if not indices:
            return torch.empty(0, *self.model.input.size, device=self.model.device)
        try:
            stacked = torch.stack([self.images.get(index, self.model.input) for index in indices])
        except UnreadableError as error:
            raise NotApplicableError(f"An image of the results can no longer be read: {error}.") from error
        return stacked.to(self.model.device, memory_format=self.model.memory_format)

    def labels(self, places: Sequence[int]) -> Tensor:
        """Return the reference classes of the images, (N,)."""
        return torch.from_numpy(np.asarray(self.results.clean.label)[list(places)]).to(self.model.device)

    def targets(self, places: Sequence[int]) -> Tensor | None:
        """Return the target classes, (N,), or None."""
        chosen = np.asarray(self.results.clean.target)[list(places)]
        return None if (chosen < 0).all() else torch.from_numpy(chosen).to(self.model.device)

    def full(self, images: Tensor, labels: Tensor, targets: Tensor | None, epsilon: float) -> Judgement:
        """Return the judged images of a PGD that uses all of ``epsilon`` and does not stop at success.

        An attack that stops at its first success returns an image at the decision boundary; for pictures and
        transfer, an image is wanted for which the network is as confident of its mistake as possible.
        """
        attack = PGD(steps=FULL_STEPS, stop=False)
        draws = generator(self.config.seed, "full", str(epsilon))
        return attack.judged(AttackInputs(self.attacked, images, labels, self.norm, epsilon, draws, targets))

    @cached_property
    def pictured(self) -> tuple[Tensor, tuple[float, ...], tuple[Judgement, ...]]:
        """The shown images, the epsilons they are shown at (at most six, the reported one last), and each's verdict."""
        images, labels, targets = self.pixels(self.shown), self.labels(self.shown), self.targets(self.shown)
        steps = [e for e in self.results.epsilons if 0 < e <= self.epsilon * (1 + 1e-9)]
        if len(steps) > _PICTURED:
            places = torch.linspace(0, len(steps) - 1, _PICTURED).round().long().tolist()
            steps = [steps[place] for place in places]
        return images, tuple(steps), tuple(self.full(images, labels, targets, epsilon) for epsilon in steps)

    @cached_property
    def sample(self) -> tuple[int, ...]:
        """Up to 24 positions of images classified correctly without attack, seeded: the sample of the views."""
        order = torch.randperm(self.results.n, generator=generator(self.config.seed, "sample")).tolist()
        return self.readable(sorted([place for place in order if self.results.correct[place]][:24]))

    @cached_property
    def sampled(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The sample's images, labels and targets."""
        return self.pixels(self.sample), self.labels(self.sample), self.targets(self.sample)

    @cached_property
    def sample_full(self) -> Tensor:
        """The sample under a full attack at the reported epsilon, (N, C, H, W), judged."""
        images, labels, targets = self.sampled
        rows = torch.arange(len(labels), device=images.device)
        parts = [
            self.full(images[part], labels[part], pick(targets, part), self.epsilon).images
            for part in torch.split(rows, self.config.batch_size)
        ]
        return torch.cat(parts) if parts else images

    def class_name(self, index: int) -> str:
        """Return the name of a class, or its number where there is no name."""
        names = self.model.class_names or self.images.class_names
        return names[index] if names and 0 <= index < len(names) else f"class {index}"

    def item_name(self, place: int) -> str:
        """Return the name of an image."""
        return self.images.item_name(int(self.results.clean.index[place]))

    def short_name(self, place: int) -> str:
        """Return the name of an image without the ending of picture files, for captions."""
        name = self.item_name(place)
        stem, dot, ending = name.rpartition(".")
        return (
            stem
            if dot and ending.lower() in ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
            else name
        )


def refines_attack(space: AdversarialWorkspace, selected: SelectedAttack) -> bool:
    """Tell whether the run refined the smallest perturbations of an attack."""
    return is_refined(selected, space.norm)


def refines(space: AdversarialWorkspace) -> bool:
    """Tell whether the run refined the smallest perturbations of one of its attacks."""
    return any(is_refined(selected, space.norm) for selected in space.attacks)


def accuracy_of_sizes(space: AdversarialWorkspace) -> str:
    """Return the accuracy of the smallest perturbations, to follow on a sentence; nothing where none was refined."""
    return f", accurate to about {ACCURACY:.0%}" if refines(space) else ""
