"""Train mode: modules that were not in eval mode."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.document import Check
from probe.core.seeds import scoped
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

_MAX_NAMES = 3


@CHECKS.register("train-mode")
def train_mode(evidence: Evidence) -> Check:
    """Count the modules that were in train mode before the run, and those that could not be switched to eval mode.

    In train mode dropout draws at random and batch normalisation depends on the other images of the batch, the attacked
    ones among them. The value is the number of modules.
    """
    switched = _after_a_pass(evidence) or evidence.stuck
    if switched:
        n = len(switched)
        detail = (
            f"{_modules(n)} in train mode after the switch to eval mode or after a forward pass (accepted: none), "
            f"{_names(switched)}, so predictions may be random and depend on the batch: fix the module's "
            "train() and eval(), and do not call train() inside forward."
        )
        return Check("Train mode", "fail", n, detail)
    if evidence.modes:
        n = len(evidence.modes)
        detail = (
            f"{_modules(n)} in train mode before the run, {_names(evidence.modes)}, and everything here was "
            "evaluated in eval mode: call eval() first if that is the mode that you want to study."
        )
        return Check("Train mode", "warn", n, detail)
    return Check("Train mode", "pass", 0, "No module was in train mode before the run or during it.")


def _after_a_pass(evidence: Evidence) -> tuple[str, ...]:
    """Return the names of the modules that are in train mode after a forward pass."""
    if evidence.n == 0:
        return ()
    with scoped(evidence.seed, "check", "mode"):
        evidence.model.verdict(evidence.images[:2])
    return tuple(name for name, sub in evidence.model.module.named_modules() if sub.training)


def _modules(n: int) -> str:
    return "1 module was" if n == 1 else f"{n} modules were"


def _names(names: Sequence[str]) -> str:
    """Write the first names; the name of the network itself is empty."""
    labels = [name or "the network itself" for name in names[:_MAX_NAMES]]
    return ", ".join(labels) + (" …" if len(names) > _MAX_NAMES else "")
