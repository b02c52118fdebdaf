"""Inner optimisation: networks that call autograd inside their own forward pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import torch

from probe.core.document import Check
from probe.core.seeds import scoped
from studies.adversarial.checks._common import hint, sample, undecided, unguided
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

NAME = "Inner optimisation"


@CHECKS.register("inner-optimisation")
def inner_optimisation(evidence: Evidence) -> Check:
    """Count the calls of autograd during a forward pass with gradients and one without.

    A flag of AutoAttack (Croce and Hein 2020, ``check_dynamic``): the gradient through an optimisation is seldom the
    one that an attack needs. Calls from Python are seen, those inside compiled code are not. The value is the number
    of calls.
    """
    sample(evidence)
    if sys.getprofile() is not None and not callable(sys.getprofile()):
        return undecided(NAME, "A profiler is running, which the check would have to switch off.")
    calls: list[CodeType] = []
    image = evidence.images[:1].detach().clone()
    with scoped(evidence.seed, "check", "inner"), _record_calls(calls):
        evidence.model.verdict(image)
        with torch.enable_grad():
            evidence.model(image.requires_grad_())
    n_calls = len(calls)
    more = hint(
        n_calls > 0,
        f"the attack may not see through it, so attack the network without that step too, and add {unguided(evidence)}",
    )
    detail = (
        f"The network called autograd {n_calls} times inside two forward passes of one image, one with and one without "
        f"gradients (accepted: never){more}."
    )
    return Check(NAME, "warn" if n_calls else "pass", n_calls, detail)


@contextmanager
def _record_calls(calls: list[CodeType]) -> Iterator[None]:
    """Record every call of autograd inside the block; an existing profile function keeps running and is restored."""
    gradient_codes = (torch.autograd.grad.__code__, torch.autograd.backward.__code__)
    before: Any = sys.getprofile()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in gradient_codes:
            calls.append(frame.f_code)
        if before is not None:
            before(frame, event, argument)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)
