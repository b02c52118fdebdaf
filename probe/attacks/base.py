"""What an attack is: one contract for all of them, ours and those of other libraries."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from probe.attacks.judge import Judgement, judge
from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm, norm_named
from probe.core.errors import UsageError
from probe.core.registry import Registry
from probe.core.seeds import generator, scoped
from probe.core.state import frozen_parameters, kept_buffers, training_mode

Access = Literal["white-box", "score-based", "decision-based", "none"]


@dataclass(frozen=True)
class Traits:
    """What an attack can do and where it comes from.

    ``norms`` are those it can keep to. ``access`` is what it asks of the network: gradients, logits,
    decisions, or nothing. ``targeted`` says that it can aim at a class. A ``minimum_norm`` attack looks for
    the smallest perturbation: one run serves every epsilon, and ``epsilon`` only bounds the search.
    ``transfer`` marks attacks made to carry over to other networks.
    """

    norms: tuple[str, ...]
    access: Access
    paper: str
    targeted: bool = False
    minimum_norm: bool = False
    transfer: bool = False
    origin: Literal["probe", "torchattacks", "foolbox"] = "probe"


@dataclass(frozen=True)
class AttackInputs:
    """What an attack is given.

    ``images`` (N, C, H, W) in [0, 1] and ``labels`` (N,), the classes to leave; ``targets`` (N,) the classes to reach, if
    any. ``start`` (N, C, H, W), inside the ball of radius ``epsilon`` in ``norm``, is where attacks that can begin
    anywhere begin; the others do not look at it. All randomness comes from ``generator``.
    """

    model: AttackedModel
    images: Tensor
    labels: Tensor
    norm: Norm
    epsilon: float
    generator: torch.Generator
    targets: Tensor | None = None
    start: Tensor | None = None

    @property
    def begin(self) -> Tensor:
        """Where to begin: ``start``, else the images."""
        return self.images if self.start is None else self.start

    def rows(self, rows: Tensor) -> Self:
        """Return the inputs of some of the images."""
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            targets=None if self.targets is None else self.targets[rows],
            start=None if self.start is None else self.start[rows],
        )

    def begin_at(self, start: Tensor | None) -> Self:
        """Return the same inputs with another start."""
        return replace(self, start=start)

    def judge(self, proposals: Tensor) -> Judgement:
        """Measure proposals (N, C, H, W) for the images on the plain network; see ``judge``."""
        return judge(self.model, self.images, proposals, self.labels, self.norm, self.epsilon, self.targets)


@dataclass(frozen=True)
class AttackResult:
    """What an attack found for N images, measured again on the plain network in float32.

    ``images`` (N, C, H, W) are inside the ball and [0, 1]; ``success`` (N,) says whether each is adversarial (wrong
    without any attack included), ``sizes`` (N,) how large the perturbation is, ``predictions`` (N,) the answers.
    """

    images: Tensor
    success: Tensor
    sizes: Tensor
    predictions: Tensor


class Attack(ABC):
    """An attack; subclasses are frozen dataclasses whose fields are its options."""

    traits: ClassVar[Traits]

    def perturb(
        self,
        model: AttackedModel,
        images: Tensor,
        labels: Tensor,
        norm: Norm,
        epsilon: float,
        generator: torch.Generator,
        targets: Tensor | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Return ``run`` of these inputs; see ``AttackInputs``."""
        return self.run(AttackInputs(model, images, labels, norm, epsilon, generator, targets, start))

    def run(self, inputs: AttackInputs) -> Tensor:
        """Return perturbed images (N, C, H, W), one for each of the inputs' images, in [0, 1] up to rounding.

        What comes back is a proposal: ``probe.attacks.judge`` decides whether it is inside the ball and adversarial. The
        module's parameters, modes, gradients and the global generators are as before afterwards, also after
        an exception. Raises UsageError for a norm or a target that the attack does not support.
        """
        self._check(inputs.norm, inputs.targets)
        if len(inputs.images) == 0:
            return inputs.images.clone()
        with _undisturbed(inputs.model):
            return self._perturb(replace(inputs, images=inputs.images.detach().clone())).detach()

    def judged(self, inputs: AttackInputs) -> Judgement:
        """Run the attack and measure what it proposes."""
        return inputs.judge(self.run(inputs))

    def __call__(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        eps: float,
        norm: str | Norm | None = None,
        targets: Tensor | None = None,
        seed: int = 0,
    ) -> AttackResult:
        """Attack a plain module and judge the result; the module is run in eval mode and left as it was.

        ``net`` takes pixels in [0, 1] (``probe.wrap`` puts a normalisation inside). ``images`` (N, C, H, W) in [0, 1],
        ``labels`` (N,) the classes to leave, None for the network's own answers; ``targets`` (N,) the classes to reach.
        ``norm`` None is the first that the attack supports. A minimum-norm attack looks for the smallest perturbation
        up to ``eps``. Raises UsageError for a norm or target that the attack does not support, or pixels outside [0, 1].
        """
        module = getattr(net, "module", net) if not isinstance(net, nn.Module) else net
        kind = norm if isinstance(norm, Norm) else norm_named(norm or self.traits.norms[0])
        if len(images) and not (float(images.min()) >= 0 and float(images.max()) <= 1):
            raise UsageError(
                "An attack takes pixels in [0, 1]: put the normalisation inside with probe.wrap."
            )
        with training_mode(module, False), kept_buffers(module), scoped(seed, "attack"):
            model = AttackedModel(module)
            known = model.verdict(images).argmax(1) if labels is None else labels.to(images.device)
            draws = generator(seed, type(self).__name__)
            inputs = AttackInputs(model, images, known, kind, eps, draws, targets)
            found = self.judged(inputs)
        return AttackResult(found.images, found.success, found.sizes, found.predictions)

    def can_warm_start(self, norm: Norm, targets: Tensor | None) -> bool:
        """Tell whether the whole attack goes on from a given ``start``, so that steps at several epsilons add up."""
        return False

    def with_fewer_steps(self, part: float) -> Attack:
        """Return the attack for the other epsilons of a curve around one: with ``part`` of its steps, if it can.

        An attack that ``can_warm_start`` begins there where it ended at the epsilon below, so that its steps add up.
        """
        return self

    @abstractmethod
    def _perturb(self, inputs: AttackInputs) -> Tensor:
        """Do the work; gradients are enabled, parameters frozen."""

    def _check(self, norm: Norm, targets: Tensor | None) -> None:
        name = type(self).__name__
        if norm.name not in self.traits.norms:
            raise UsageError(f"{name} knows the norm {' and '.join(self.traits.norms)}, not {norm.name}.")
        if targets is not None and not self.traits.targeted:
            raise UsageError(f"{name} cannot aim at a class: choose another attack, or leave --target out.")


ATTACKS: Registry[type[Attack]] = Registry("attack", "probe.attacks.families")


@contextmanager
def _undisturbed(model: AttackedModel) -> Iterator[None]:
    """Freeze parameters, keep each module's mode, allow gradients; put everything back."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(frozen_parameters(model.module))
        for parameter in model.module.parameters():
            stack.callback(setattr, parameter, "grad", parameter.grad)
        modes = [(sub, sub.training) for sub in model.module.modules()]
        for sub, mode in modes:
            stack.callback(setattr, sub, "training", mode)
        yield


def summary(attack: type[Attack]) -> str:
    """Return the first line of an attack's docstring."""
    return (inspect.getdoc(attack) or "").partition("\n")[0]


__all__ = ["ATTACKS", "Access", "Attack", "AttackInputs", "AttackResult", "Traits", "summary"]
