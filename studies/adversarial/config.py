"""The options of the adversarial study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from probe.attacks.threats._base import Threat
from probe.attacks.threats.choose import parse_threats
from probe.certify.options import Bounds, Smoothing, parse_certificates
from probe.core.errors import UsageError
from probe.data.corrupted_copies import kinds_or_folder

ImageForm = Literal["png", "npz"]

DEFAULT_ATTACKS = ("apgd-ce", "apgd-dlr")
DEFAULT_L0_ATTACKS = ("pgd?restarts=3", "pgd?loss=margin&restarts=3")


@dataclass(frozen=True)
class AdversarialConfig:
    """The options of ``probe adversarial``.

    ``epsilons`` ascending, in pixel units; a single one is extended to a curve around it, from 0 until robust
    accuracy collapses. The attacks are made in full at each. ``attacks`` are names with options (``pgd?steps=100``);
    none means APGD on two losses, or PGD where APGD does not support the norm. ``target``: a class name or number,
    ``least-likely`` or ``random``; None is untargeted. ``restarts`` and ``steps`` go to
    the attacks that have such options. ``views`` and ``checks``: names, or None for all.
    ``corruptions``: kinds, ``all`` of ImageNet-C, or a folder laid out as ImageNet-C or
    CIFAR-10-C; none means a few kinds.
    ``certify``: what to prove, with options (``bounds``, ``smoothing?sigma=0.25``).
    ``threats``: threat models beside the norm, with options (``spatial?degrees=10``), or ``all``.
    ``adapt``: where checks fail, attack again as they ask for.
    ``images``: how many pictures
    to show, or their indices. ``bf16``: gradients in bfloat16; None means where the processor is faster with it.
    ``save_images``: the format in which adversarial images are saved beside the report; None saves none. ``jobs``: processes
    that attack the batches, 0 one per core; ``cluster``: a dask scheduler whose workers do, such as ``tcp://host:8786``.
    """

    epsilons: tuple[float, ...] = (0.03,)
    norm: str = "Linf"
    attacks: tuple[str, ...] = ()
    target: str | None = None
    restarts: int | None = None
    steps: int | None = None
    views: tuple[str, ...] | None = None
    checks: tuple[str, ...] | None = None
    corruptions: tuple[str, ...] = ()
    certify: tuple[str, ...] = ()
    threats: tuple[str, ...] = ()
    adapt: bool = False
    images: int | tuple[int, ...] = 4
    batch_size: int = 32
    bf16: bool | None = None
    save_images: ImageForm | None = None
    seed: int = 0
    jobs: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown image format, unknown corruptions, certificates and threats, and a number below 0."""
        kinds_or_folder(self.corruptions)
        parse_certificates(self.certify)
        parse_threats(self.threats)
        if self.adapt and self.checks == ():
            raise UsageError("--adapt acts on the checks that fail: remove --no-checks.")
        if self.jobs < 0:
            raise UsageError(f"--jobs must be at least 0; got {self.jobs}.")
        if self.save_images not in (None, "png", "npz"):
            raise UsageError(f"Images can be saved as png or npz, not as '{self.save_images}'.")

    @property
    def certificates(self) -> dict[str, Bounds | Smoothing]:
        """The certificates to make, by name, with their options."""
        return parse_certificates(self.certify)

    @property
    def threat_models(self) -> dict[str, Threat]:
        """The threat models to try, by name, with their options."""
        return parse_threats(self.threats)
