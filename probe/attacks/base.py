"""The base class of all attacks, both probe's own and those of other libraries."""

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
from probe.attacks.norms import Norm, get_norm
from probe.core.errors import UsageError
from probe.core.outputs import returning_logits
from probe.core.registry import Registry
from probe.core.seeds import generator, scoped
from probe.core.state import frozen_parameters, kept_buffers, training_mode

Access = Literal["white-box", "score-based", "decision-based", "none"]


@dataclass(frozen=True)
class Traits:
    """The capabilities and origin of an attack.

    ``norms`` are the supported norms. ``access`` is what the attack needs from the network: gradients, logits,
    decisions, or nothing. ``targeted``: whether targeted attacks are supported. A ``minimum_norm`` attack looks for
    the smallest perturbation: one run gives the result for every epsilon, and ``epsilon`` only bounds the search.
    ``transfer`` marks attacks designed to transfer to other networks.
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
    """The inputs of an attack.

    ``images`` (N, C, H, W) in [0, 1] and ``labels`` (N,), their true classes; ``targets`` (N,), the target classes, if
    any. ``start`` (N, C, H, W), inside the ball of radius ``epsilon`` in ``norm``, is the starting point for attacks that
    support one; other attacks ignore it. All randomness comes from ``generator``.
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
        """The starting point: ``start``, else the images."""
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
        """Return the same inputs with another starting point."""
        return replace(self, start=start)

    def judge(self, proposals: Tensor) -> Judgement:
        """Measure proposals (N, C, H, W) for the images on the plain network; see ``judge``."""
        return judge(self.model, self.images, proposals, self.labels, self.norm, self.epsilon, self.targets)


@dataclass(frozen=True)
class AttackResult:
    """The result of an attack on N images, verified on the plain network in float32.

    ``images`` (N, C, H, W) are inside the ball and [0, 1]; ``success`` (N,) says whether each is adversarial (including
    images that are already wrong without an attack), ``sizes`` (N,) are the sizes of the perturbations, ``predictions``
    (N,) the predicted classes.
    """

    images: Tensor
    success: Tensor
    sizes: Tensor
    predictions: Tensor


class Attack(ABC):
    """Base class of attacks; subclasses are frozen dataclasses whose fields are the options."""

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
        """Call ``run`` with these inputs; see ``AttackInputs``."""
        return self.run(AttackInputs(model, images, labels, norm, epsilon, generator, targets, start))

    def run(self, inputs: AttackInputs) -> Tensor:
        """Return perturbed images (N, C, H, W), one for each input image, in [0, 1] up to rounding.

        The result is a proposal: ``probe.attacks.judge`` decides whether it is inside the ball and adversarial. The
        module's parameters, modes and gradients and the global generators are restored afterwards, even after
        an exception. Raises UsageError, before anything else, for a norm, a target or a size of image that the attack does
        not support.
        """
        self._check(inputs.norm, inputs.targets)
        self.check_size(tuple(inputs.images.shape[1:]), inputs.norm, targeted=inputs.targets is not None)
        if len(inputs.images) == 0:
            return inputs.images.clone()
        with _undisturbed(inputs.model):
            return self._perturb(replace(inputs, images=inputs.images.detach().clone())).detach()

    def judged(self, inputs: AttackInputs) -> Judgement:
        """Run the attack and judge its proposals."""
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
        """Attack a plain module and judge the result; the module is run in eval mode and restored afterwards.

        ``net`` takes pixels in [0, 1] (``probe.wrap`` includes a normalisation). ``images`` (N, C, H, W) in [0, 1];
        ``labels`` (N,) are the true classes, None: the network's own predictions; ``targets`` (N,) are the target classes.
        ``norm`` None is the first norm that the attack supports. A minimum-norm attack looks for the smallest perturbation
        up to ``eps``. Logits are picked out of a tuple, a dictionary or a dataclass. Raises UsageError for a norm or target that
        the attack does not support, or pixels outside [0, 1], CannotRunError for a network that returns no logits.
        """
        module = getattr(net, "module", net) if not isinstance(net, nn.Module) else net
        kind = norm if isinstance(norm, Norm) else get_norm(norm or self.traits.norms[0])
        if len(images) and not (float(images.min()) >= 0 and float(images.max()) <= 1):
            raise UsageError(
                "An attack needs pixels in [0, 1]: use probe.wrap to include the normalisation in the network."
            )
        with training_mode(module, False), kept_buffers(module), scoped(seed, "attack"):
            model = AttackedModel(returning_logits(module, images))
            known = model.verdict(images).argmax(1) if labels is None else labels.to(images.device)
            draws = generator(seed, type(self).__name__)
            inputs = AttackInputs(model, images, known, kind, eps, draws, targets)
            judgement = self.judged(inputs)
        return AttackResult(judgement.images, judgement.success, judgement.sizes, judgement.predictions)

    @property
    def rules_out_smaller(self) -> bool:
        """Whether an image that resists the attack at one epsilon resists it at smaller ones, but for chance.

        That takes many steps that scale with epsilon, and an end at the first success. A single step, for example, can
        overshoot in a large ball and succeed in a small one.
        """
        return False

    def refusal(self, size: tuple[int, ...]) -> str:
        """Return why images of ``size`` (C, H, W) cannot be attacked, as a clause about "it"; empty if they can."""
        return ""

    def check_size(self, size: tuple[int, ...], norm: Norm, *, targeted: bool = False) -> None:
        """Raise UsageError, with attacks that can be used instead, for images (C, H, W) that cannot be attacked."""
        reason = self.refusal(size)
        if reason:
            name = next((name for name in ATTACKS if ATTACKS.get(name) is type(self)), type(self).__name__)
            instead = " or ".join(self._instead(size, norm, targeted))
            raise UsageError(f"The attack {name} cannot be used here, because {reason}: use {instead}.")

    def _instead(self, size: tuple[int, ...], norm: Norm, targeted: bool) -> list[str]:
        """Return up to two attacks for such images, those most like this one first."""
        own = self.traits
        kinds = [(name, ATTACKS.get(name)) for name in ATTACKS]
        fit = [
            (kind.traits.access != own.access, kind.traits.transfer != own.transfer, name)
            for name, kind in kinds
            if norm.name in kind.traits.norms
            and (kind.traits.targeted or not targeted)
            and not kind().refusal(size)
        ]
        return [name for *_, name in sorted(fit)[:2]]

    @abstractmethod
    def _perturb(self, inputs: AttackInputs) -> Tensor:
        """Run the attack; gradients are enabled and parameters frozen."""

    def _check(self, norm: Norm, targets: Tensor | None) -> None:
        name = type(self).__name__
        if norm.name not in self.traits.norms:
            raise UsageError(f"{name} supports {' and '.join(self.traits.norms)}, not {norm.name}.")
        if targets is not None and not self.traits.targeted:
            raise UsageError(
                f"{name} does not support targeted attacks: choose another attack, or remove --target."
            )


ATTACKS: Registry[type[Attack]] = Registry("attack", "probe.attacks.families")


@contextmanager
def _undisturbed(model: AttackedModel) -> Iterator[None]:
    """Freeze parameters and enable gradients; restore these and each module's mode afterwards."""
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
