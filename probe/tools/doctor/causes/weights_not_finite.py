"""Are there NaN or infinite weights before the training?"""

from __future__ import annotations

from itertools import chain

import torch

from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TrainingEvidence, short
from probe.tools.doctor.registries import CAUSES

_NAME = "weights-not-finite"


@CAUSES.register("weights-not-finite", order=3)
def weights_not_finite(evidence: TrainingEvidence) -> Diagnosis:
    """Look for NaN and infinity in the weights and buffers before the first step."""
    title = "NaN or infinity in the weights"
    module = evidence.plan.module
    bad: list[tuple[str, int, int]] = []
    total = 0
    for name, value in chain(module.named_parameters(), module.named_buffers()):
        total += value.numel()
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad.append((name, int((~torch.isfinite(value)).sum()), value.numel()))
    if not bad:
        return Diagnosis(_NAME, "clear", title, f"All {total:,} weights and buffers are finite at the start.")
    name, count, size = bad[0]
    more = f", and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
    return Diagnosis(
        _NAME,
        "fault",
        title,
        f"Before the first step {count:,} of the {size:,} values of {short(name)} are not finite{more}.",
        "Load a checkpoint from before the training failed, or check how this tensor is initialised.",
        explains=frozenset(CAUSES) - {_NAME, "input-not-finite", "labels"},
    )
