"""What an attack is: one contract for all of them, ours and those of other libraries."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from probe.attacks.judge import judge
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
    ``transfer`` marks attacks made to carry over to other networks. ``min_classes`` is the least number of
    classes that its loss needs.
    """

    norms: tuple[str, ...]
    access: Access
    paper: str
    targeted: bool = False
    minimum_norm: bool = False
    transfer: bool = False
    min_classes: int = 2
    origin: Literal["probe", "torchattacks", "foolbox"] = "probe"


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
        """Return perturbed images (N, C, H, W), one for each of ``images``, in [0, 1] up to rounding.

        ``images`` (N, C, H, W) in [0, 1] and ``labels`` (N,), the classes to leave; ``targets`` (N,) the
        classes to reach, if any. ``start`` (N, C, H, W), inside the ball, is where attacks that can begin
        anywhere begin; the others do not look at it. All randomness comes from ``generator``. What comes back
        is a proposal: ``probe.attacks.judge`` decides whether it is inside the ball and adversarial. The
        module's parameters, modes, gradients and the global generators are as before afterwards, also after
        an exception. Raises UsageError for a norm or a target that the attack does not know.
        """
        self._check(norm, targets)
        if len(images) == 0:
            return images.clone()
        with _undisturbed(model):
            images = images.detach().clone()
            if start is None:
                found = self._perturb(model, images, labels, norm, epsilon, generator, targets)
            else:
                found = self._from(start, model, images, labels, norm, epsilon, generator, targets)
        return found.detach()

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
            proposals = self.perturb(
                model, images, known, kind, eps, generator(seed, type(self).__name__), targets
            )
            found = judge(model, images, proposals, known, kind, eps, targets)
        return AttackResult(found.images, found.success, found.sizes, found.predictions)

    def _from(
        self,
        start: Tensor,
        model: AttackedModel,
        images: Tensor,
        labels: Tensor,
        norm: Norm,
        epsilon: float,
        generator: torch.Generator,
        targets: Tensor | None,
    ) -> Tensor:
        """Do the work from a given start; for attacks that can."""
        return self._perturb(model, images, labels, norm, epsilon, generator, targets)

    def can_warm_start(self, norm: Norm, targets: Tensor | None) -> bool:
        """Tell whether the whole attack goes on from a given ``start``, so that steps at several epsilons add up."""
        return False

    def with_fewer_steps(self, part: float) -> Attack:
        """Return the attack for the other epsilons of a curve around one: with ``part`` of its steps, if it can.

        An attack that ``can_warm_start`` begins there where it ended at the epsilon below, so that its steps add up.
        """
        return self

    @abstractmethod
    def _perturb(
        self,
        model: AttackedModel,
        images: Tensor,
        labels: Tensor,
        norm: Norm,
        epsilon: float,
        generator: torch.Generator,
        targets: Tensor | None,
    ) -> Tensor:
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


__all__ = ["ATTACKS", "Access", "Attack", "AttackResult", "Traits", "summary"]
