"""Was the network in the mode in which it is used?"""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.document import Check
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

_NAMED = 3


@CHECKS.register("train-mode")
def train_mode(evidence: Evidence) -> Check:
    """Count the modules that were in train mode before the run, and those that could not be brought out of it.

    In train mode dropout draws at random and batch normalisation depends on the other images of the batch, the attacked
    ones among them. The value is the number of modules.
    """
    if evidence.stuck:
        found = len(evidence.stuck)
        detail = (
            f"{_modules(found)} in train mode after the switch to eval mode (accepted: none), "
            f"{_names(evidence.stuck)}, so answers may depend on chance and on the batch: mend the module's "
            "train() and eval()."
        )
        return Check("Train mode", "fail", found, detail)
    if evidence.modes:
        found = len(evidence.modes)
        detail = (
            f"{_modules(found)} in train mode before the run, {_names(evidence.modes)}, and everything here was "
            "evaluated in eval mode: call eval() if that is what you mean to study."
        )
        return Check("Train mode", "warn", found, detail)
    return Check("Train mode", "pass", 0, "No module was in train mode before the run or during it.")


def _modules(found: int) -> str:
    return "1 module was" if found == 1 else f"{found} modules were"


def _names(names: Sequence[str]) -> str:
    """List the first names; the module itself has none."""
    said = [name or "the network itself" for name in names[:_NAMED]]
    return ", ".join(said) + (" …" if len(names) > _NAMED else "")
