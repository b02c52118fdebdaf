"""The options of the adversarial study."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_ATTACKS = ("apgd-ce", "apgd-dlr")
DEFAULT_L0_ATTACKS = ("pgd?restarts=3", "pgd?loss=margin&restarts=3")


@dataclass(frozen=True)
class AdversarialConfig:
    """The options of ``probe adversarial``.

    ``epsilons`` ascending, in pixel units; a single one stands for a curve that the study spreads around it, from
    0 until robust accuracy collapses. ``attacks`` are names with options (``pgd?steps=100``); none means
    APGD on two losses, or PGD where APGD does not know the norm. ``target``: a class name or number,
    ``least-likely`` or ``random``; None is untargeted. ``restarts`` and ``steps`` go to the attacks that have such
    options. ``views`` and ``checks``: names, or None for all. ``images``: how many pictures to show, or their
    indices. ``reduced``: gradients in bfloat16; None means where the processor is faster with it.
    """

    epsilons: tuple[float, ...] = (0.03,)
    norm: str = "Linf"
    attacks: tuple[str, ...] = ()
    target: str | None = None
    restarts: int | None = None
    steps: int | None = None
    views: tuple[str, ...] | None = None
    checks: tuple[str, ...] | None = None
    images: int | tuple[int, ...] = 4
    batch_size: int = 32
    reduced: bool | None = None
    seed: int = 0
