"""Base classes that adapt foolbox' attacks to ``Attack``, with fixes for some of their problems."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from probe.attacks.base import Attack, AttackInputs
from probe.attacks.norms import Norm
from probe.attacks.torchattacks_adapter import BestSeen, ModelWrapper, WrappedInputs, silent, wrapped_inputs
from probe.core.seeds import scoped

with warnings.catch_warnings():
    # foolbox imports scipy.ndimage.filters, which scipy has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import eagerpy as _eagerpy
    import foolbox as _foolbox

foolbox: Any = _foolbox
eagerpy: Any = _eagerpy
"""The libraries, imported without warnings, and untyped because they export no names explicitly."""


class LogProbabilities(ModelWrapper):
    """A network that returns log-probabilities, for GenAttack, which takes the logarithm of a difference of logits."""

    def forward(self, images: Tensor) -> Tensor:
        """Return log-probabilities (N, classes)."""
        return super().forward(images).log_softmax(1)


@dataclass(frozen=True)
class FoolboxAttack(Attack):
    """Base class of foolbox attacks; a subclass builds the attack for a norm.

    Minimum-norm attacks run only on images that are classified correctly, because others need no perturbation, and
    several attacks divide by its length. Images without an adversarial example are returned clean.
    """

    network: ClassVar[type[ModelWrapper]] = ModelWrapper
    """The wrapper through which the library calls the network."""

    @abstractmethod
    def _build(self, norm: Norm) -> Any:
        """Return foolbox' attack for the norm."""

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        case = self._with_targets(wrapped_inputs(inputs))
        rescue = BestSeen(case, smallest=self.traits.minimum_norm)
        with silent(), scoped(case.seed, type(self).__name__), case.model.on_forward(rescue.observe):
            rows = torch.arange(len(case.images), device=case.images.device)
            if self.traits.minimum_norm:
                rows = rows[~case.reached(case.model(case.images), rows)]
            result = case.images.clone()
            if len(rows):
                with rescue.only(rows):
                    rows, better = self._attack(case, rows, rescue)
                result[rows] = better.detach().to(result)
        return rescue.result(result)

    def _with_targets(self, case: WrappedInputs) -> WrappedInputs:
        """Return the case with the targets for the attack."""
        return case

    def _attack(self, case: WrappedInputs, rows: Tensor, rescue: BestSeen) -> tuple[Tensor, Tensor]:
        """Return the attacked rows, out of ``rows``, and their images."""
        return rows, self._launch(case, rows)

    def _launch(self, case: WrappedInputs, rows: Tensor, **more: Any) -> Tensor:
        images = case.images[rows]
        epsilons = None if self.traits.minimum_norm else case.epsilon
        attack = self._build(case.norm)
        raw, clipped, _ = attack(
            foolbox_model(self.network(case.model), images),
            images,
            criterion(case, rows),
            epsilons=epsilons,
            **more,
        )
        images_found: Tensor = raw if self.traits.minimum_norm else clipped
        return images_found


@dataclass(frozen=True)
class StartedAttack(FoolboxAttack):
    """An attack that starts from an adversarial image; if none is found, the image is returned clean.

    Starts are blends with uniform noise, of which up to ``directions`` are tried, as in foolbox.
    """

    directions: int = 1000

    def _attack(self, case: WrappedInputs, rows: Tensor, rescue: BestSeen) -> tuple[Tensor, Tensor]:
        fmodel = foolbox_model(self.network(case.model), case.images)
        starts = self._starter().run(fmodel, case.images[rows], criterion(case, rows))
        # foolbox fails for all images when one has no start.
        started = case.reached(case.model.verdict(starts), rows)
        rows, starts = rows[started], starts[started]
        if not len(rows):
            return rows, starts
        with rescue.only(rows):
            return rows, self._launch(case, rows, starting_points=starts)

    def _starter(self) -> Any:
        return foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(steps=50, directions=self.directions)


def foolbox_model(network: ModelWrapper, images: Tensor) -> Any:
    """Return foolbox' wrapper of a network on pixels in [0, 1]."""
    return foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)


def criterion(case: WrappedInputs, rows: Tensor) -> Any:
    """Return foolbox' criterion for the images in ``rows``."""
    if case.targets is None:
        return foolbox.criteria.Misclassification(case.labels[rows])
    return foolbox.criteria.TargetedMisclassification(case.targets[rows])


def distance(norm: Norm) -> Any:
    """Return foolbox' distance for a norm."""
    return {
        "Linf": foolbox.distances.linf,
        "L2": foolbox.distances.l2,
        "L1": foolbox.distances.l1,
        "L0": foolbox.distances.l0,
    }[norm.name]


def target_runner_up(case: WrappedInputs) -> WrappedInputs:
    """Return the case with the most likely wrong class as the default target, for targeted-only attacks."""
    if case.targets is not None:
        return case
    logits = case.model.verdict(case.images)
    return replace(case, targets=logits.scatter(1, case.labels[:, None], -torch.inf).argmax(1))
