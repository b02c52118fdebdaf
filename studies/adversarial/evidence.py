"""Evidence for the validity checks: a few small experiments on a sample, each run once and shared."""

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
from probe.attacks.families.sigma_zero import SigmaZero
from probe.attacks.families.sparse_rs import SparseRS
from probe.attacks.families.square import Square
from probe.attacks.judge import Judgement
from probe.attacks.losses import pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import L0, Norm
from probe.attacks.select import SelectedAttack
from probe.core.document import Check
from probe.core.seeds import generator, scoped
from probe.core.state import frozen_parameters
from studies.adversarial.results import Results
from studies.adversarial.workspace import AdversarialWorkspace
from studies.checks import SAMPLE as IN_A_BATCH
from studies.checks import check_batch_dependence

SAMPLE = 16

SAME_LOGITS = 1e-4
"""Accepted rounding difference between repeated passes, as a part of the largest |logit|."""

PASSES = 2
QUERIES = 300
STEPS = 40


@dataclass(frozen=True)
class Climb:
    """One run of a PGD: the attack, its judged end point, and the trace of its steps."""

    attack: PGD
    verdict: Judgement
    trace: Trace


@dataclass(frozen=True)
class Evidence:
    """A sample of a run's images that are classified correctly without attack, and experiments on them.

    ``places`` are the positions of the M images in the run's ``results``.
    ``modes`` are the names of the modules that were in train mode before the run, ``stuck`` those that stay in it.
    All experiments are at ``epsilon`` unless they say otherwise, and each returns a mask (M,) of the images that it
    breaks, as judged by ``probe.attacks.judge``.
    """

    space: AdversarialWorkspace
    places: tuple[int, ...]
    modes: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()

    @cached_property
    def images(self) -> Tensor:
        """The sample's images, (M, C, H, W)."""
        return self.space.pixels(self.places)

    @cached_property
    def labels(self) -> Tensor:
        """The classes that they are judged against, (M,)."""
        return self.space.labels(self.places)

    @cached_property
    def targets(self) -> Tensor | None:
        """The target classes, (M,), or None."""
        return self.space.targets(self.places)

    @property
    def model(self) -> AttackedModel:
        """The network as attacks see it."""
        return self.space.attacked

    @property
    def norm(self) -> Norm:
        """The norm of the run."""
        return self.space.norm

    @property
    def epsilon(self) -> float:
        """The epsilon that is reported."""
        return self.space.epsilon

    @property
    def attacks(self) -> tuple[SelectedAttack, ...]:
        """The attacks of the run."""
        return self.space.attacks

    @property
    def results(self) -> Results:
        """The results of the run, over all of its images."""
        return self.space.results

    @property
    def num_classes(self) -> int:
        """The number of logits."""
        return self.space.model.num_classes

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.space.config.seed

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
    def randomised(self) -> Tensor:
        """Images that get different logits in repeated passes, (M,); passes with gradients are compared among themselves."""
        model, images = self.model, self.images
        with scoped(self.seed, "check", "randomised"):
            plain = torch.stack([model.verdict(images) for _ in range(PASSES)])
            with torch.enable_grad():
                x = images.detach().clone().requires_grad_()
                recorded = torch.stack([model(x).detach() for _ in range(PASSES)])
        return _differ(plain) | _differ(recorded)

    @cached_property
    def batch(self) -> Check:
        """The check of whether the answer for an image depends on the other images of its batch."""
        pixels = self.space.pixels(self.space.readable(range(min(IN_A_BATCH, self.space.results.n))))
        return check_batch_dependence(self.space.model, pixels, self.seed)

    @cached_property
    def chosen(self) -> Tensor:
        """Images that any of the run's own attacks broke within epsilon."""
        return self._of_results(lambda attack: True)

    @cached_property
    def chosen_with_gradients(self) -> Tensor:
        """Images that the run's white-box attacks broke within epsilon."""
        return self._of_results(lambda attack: attack.attack.traits.access == "white-box")

    def _of_results(self, applies: Callable[[SelectedAttack], bool]) -> Tensor:
        mask = torch.zeros(self.n, dtype=torch.bool)
        for attack in self.attacks:
            if applies(attack):
                success = self.results.attacks[attack.text].success(self.epsilon)[list(self.places)]
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

    def climb_from_start(self, attack: PGD) -> Climb:
        """Run a PGD once from ``start`` (from the images if it has no random start) and judge it."""
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
        return self.climb_from_start(replace(PGD(), steps=STEPS, loss="margin"))

    @cached_property
    def traced(self) -> tuple[str, Climb]:
        """One run of the first PGD among the run's attacks, with its text; else that of the reference PGD."""
        for selected in self.attacks:
            if isinstance(selected.attack, PGD):
                return selected.text, self.climb_from_start(replace(selected.attack, restarts=1, stop=True))
        return "the reference PGD", self.reference_run

    @property
    def iterative(self) -> Tensor:
        """Images that the reference PGD broke."""
        return self.reference_run.verdict.success

    @cached_property
    def with_gradients(self) -> Tensor:
        """Images that the reference PGD breaks, in L0, where PGD is weak, or σ-zero."""
        if not isinstance(self.norm, L0):
            return self.iterative
        remaining = (~self.iterative).nonzero()[:, 0]
        attack = SigmaZero(steps=3 * STEPS)
        return self.iterative | self.broken_by(attack, self.epsilon, "sigma-zero", remaining)

    @cached_property
    def longer(self) -> Tensor:
        """Images that the reference PGD or one with three times the steps and two restarts breaks."""
        remaining = (~self.iterative & ~self.chosen).nonzero()[:, 0]
        attack = replace(PGD(), steps=3 * STEPS, restarts=2, loss="margin")
        return self.iterative | self.broken_by(attack, self.epsilon, "longer", remaining)

    @cached_property
    def noise(self) -> Tensor:
        """Images that random noise of the same size breaks, ten draws."""
        return self.broken_by(Noise(draws=10), self.epsilon, "noise")

    @cached_property
    def gradient_free_left(self) -> Tensor:
        """Images that the search without gradients breaks among those that the run's white-box attacks did not."""
        return self._searched(~self.chosen_with_gradients, "gradient-free")

    @cached_property
    def gradient_free(self) -> Tensor:
        """Images of the whole sample that the search without gradients breaks."""
        return self.gradient_free_left | self._searched(self.chosen_with_gradients, "gradient-free, the rest")

    @property
    def search(self) -> str:
        """The search without gradients that is defined in the run's norm, by name."""
        return "Square attack" if self.norm.name in Square.traits.norms else "Sparse-RS"

    def _searched(self, mask: Tensor, key: str) -> Tensor:
        square = self.norm.name in Square.traits.norms
        attack = Square(queries=QUERIES, rescale=True) if square else SparseRS(queries=QUERIES)
        return self.broken_by(attack, self.epsilon, key, mask.nonzero()[:, 0])

    @cached_property
    def unbounded(self) -> Tensor:
        """Images that the reference PGD breaks with the largest epsilon that the pixel range allows."""
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


def _differ(passes: Tensor) -> Tensor:
    passes = passes.nan_to_num()
    spread = (passes.amax(0) - passes.amin(0)).amax(1)
    return spread > SAME_LOGITS * passes.abs().amax((0, 2)).clamp_min(1e-12)
