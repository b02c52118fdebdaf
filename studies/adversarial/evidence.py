"""What the validity checks look at: a few small experiments on a sample, each made once and shared."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from probe.attacks.base import Attack, AttackInputs
from probe.attacks.families.gradient import FGSM, PGD, Trace
from probe.attacks.families.noise import Noise
from probe.attacks.families.square import Square
from probe.attacks.judge import Judgement
from probe.attacks.losses import pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm
from probe.attacks.select import SelectedAttack
from probe.core.progress import Progress
from probe.core.seeds import generator, scoped
from probe.core.state import frozen_parameters
from studies.adversarial.results import Results

SAMPLE = 16
QUERIES = 300
STEPS = 40


@dataclass(frozen=True)
class Climb:
    """One run of a PGD: the attack, where it ended as the judge sees it, and what it passed through."""

    attack: PGD
    verdict: Judgement
    trace: Trace


@dataclass(frozen=True)
class Evidence:
    """A sample of images that are right without attack, and experiments on them.

    ``images`` (M, C, H, W), ``labels`` (M,), ``targets`` (M,) or None; ``places`` are their positions in ``results``.
    ``modes`` are the names of the modules that were found in train mode before the run, ``stuck`` those that stay
    in it. All experiments are at ``epsilon`` unless they say otherwise, and each returns a mask (M,): who is
    adversarial by the judge.
    """

    model: AttackedModel
    images: Tensor
    labels: Tensor
    targets: Tensor | None
    places: tuple[int, ...]
    norm: Norm
    epsilon: float
    attacks: tuple[SelectedAttack, ...]
    results: Results
    num_classes: int
    seed: int
    progress: Progress
    modes: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """The number of images in the sample."""
        return len(self.places)

    def broken_by(self, attack: Attack, epsilon: float, key: str, rows: Tensor | None = None) -> Tensor:
        """Return which images (of ``rows``, or all) an attack breaks by itself at ``epsilon``, (M,)."""
        rows = torch.arange(self.n, device=self.images.device) if rows is None else rows
        result = torch.zeros(self.n, dtype=torch.bool, device=self.images.device)
        if len(rows) and epsilon > 0:
            images, labels, goal = self.images[rows], self.labels[rows], pick(self.targets, rows)
            draws = generator(self.seed, "check", key, str(epsilon))
            # Networks that draw at random take from the global generators: the same draws in every run.
            with scoped(self.seed, "check", key, str(epsilon)):
                inputs = AttackInputs(self.model, images, labels, self.norm, epsilon, draws, goal)
                result[rows] = attack.judged(inputs).success
        return result

    @cached_property
    def chosen(self) -> Tensor:
        """What the run's own attacks broke within epsilon, all of them together."""
        return self._of_results(lambda one: True)

    @cached_property
    def chosen_with_gradients(self) -> Tensor:
        """What the run's white-box attacks broke within epsilon."""
        return self._of_results(lambda one: one.attack.traits.access == "white-box")

    def _of_results(self, wanted: Callable[[SelectedAttack], bool]) -> Tensor:
        mask = torch.zeros(self.n, dtype=torch.bool)
        for one in self.attacks:
            if wanted(one):
                success = self.results.attacks[one.text].success(self.epsilon)[list(self.places)]
                mask |= torch.from_numpy(success)
        return mask.to(self.images.device)

    @cached_property
    def single_step(self) -> Tensor:
        """FGSM."""
        return self.broken_by(FGSM(), self.epsilon, "single step")

    @cached_property
    def start(self) -> Tensor:
        """Where the reference PGD starts: images moved at random within epsilon, (M, C, H, W)."""
        return self.norm.start(self.images, self.epsilon, generator(self.seed, "check", "reference"))

    def climbed(self, attack: PGD) -> Climb:
        """Return one run of a PGD from ``start`` (or from the images where it wants that), judged, with its trace."""
        trace = Trace()
        start = self.start if attack.random_start else self.images
        with ExitStack() as stack:
            stack.enter_context(frozen_parameters(self.model.module))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(scoped(self.seed, "check", "climb"))
            draws = generator(self.seed, "check", "climb")
            inputs = AttackInputs(
                self.model, self.images, self.labels, self.norm, self.epsilon, draws, self.targets, start
            )
            moved, _ = attack.climb(inputs, trace)
            verdict = inputs.judge(moved)
        return Climb(attack, verdict, trace)

    @cached_property
    def reference_run(self) -> Climb:
        """A PGD of 40 steps on the margin."""
        return self.climbed(replace(PGD(), steps=STEPS, loss="margin"))

    @cached_property
    def traced(self) -> tuple[str, Climb]:
        """One run of the first PGD that the run used, under the name typed for it; else the reference's."""
        for one in self.attacks:
            if isinstance(one.attack, PGD):
                return one.text, self.climbed(replace(one.attack, restarts=1, stop=True))
        return "the reference PGD", self.reference_run

    @property
    def iterative(self) -> Tensor:
        """What the reference PGD broke."""
        return self.reference_run.verdict.success

    @cached_property
    def longer(self) -> Tensor:
        """Return what it breaks, and what three times the steps and two restarts add to it and to the run."""
        left = (~self.iterative & ~self.chosen).nonzero()[:, 0]
        attack = replace(PGD(), steps=3 * STEPS, restarts=2, loss="margin")
        return self.iterative | self.broken_by(attack, self.epsilon, "longer", left)

    @cached_property
    def noise(self) -> Tensor:
        """Random noise of the same size, ten draws."""
        return self.broken_by(Noise(draws=10), self.epsilon, "noise")

    @cached_property
    def gradient_free_left(self) -> Tensor | None:
        """What Square attack with 300 queries breaks of what the run's white-box attacks left.

        None for the norms in which it is not defined.
        """
        return self._square(~self.chosen_with_gradients, "gradient-free")

    @cached_property
    def gradient_free(self) -> Tensor | None:
        """What it breaks of the whole sample; None as above."""
        left = self.gradient_free_left
        rest = self._square(self.chosen_with_gradients, "gradient-free, the rest")
        return None if left is None or rest is None else left | rest

    def _square(self, mask: Tensor, key: str) -> Tensor | None:
        attack = Square(queries=QUERIES, rescale=True)
        if self.norm.name not in attack.traits.norms:
            return None
        return self.broken_by(attack, self.epsilon, key, mask.nonzero()[:, 0])

    @cached_property
    def unbounded(self) -> Tensor:
        """The reference PGD with the largest epsilon that the pixels' range allows."""
        largest = self.norm.largest(tuple(self.images.shape[1:]))
        attack = replace(PGD(), steps=STEPS, loss="margin")
        return self.broken_by(attack, largest, "unbounded")

    @cached_property
    def rising(self) -> tuple[tuple[float, int], ...]:
        """(epsilon, images broken) by independent runs at a quarter, half, all and twice of epsilon."""
        largest = self.norm.largest(tuple(self.images.shape[1:]))
        attack = replace(PGD(), steps=10, loss="margin")
        rows = []
        for factor in (0.25, 0.5, 1.0, 2.0):
            epsilon = min(self.epsilon * factor, largest)
            if self.norm.name == "L0":
                epsilon = max(1.0, round(epsilon))
            rows.append((epsilon, int(self.broken_by(attack, epsilon, "rising").sum())))
        return tuple(dict(rows).items())
