"""What stands before the network and has no gradient, such as JPEG or quantisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.seeds import generator
from studies.adversarial.remedies._case import MASKED, REMEDIES, Case, ModuleCall, Plan

_CHECKS = (
    *MASKED,
    "random-noise",
    "transfer-failure",
    "unstable-predictions",
    "single-step",
    "rising-epsilon",
)
_STEPS, _RATE, _WIDTH = 300, 0.01, 32

_BETTER = 0.25
"""Up to this part of the error of the identity, a fitted network stands in for what has the image's shape."""


@REMEDIES.register("front", order=3)
def front(case: Case, plan: Plan) -> None:
    """Let gradients pass what is done to the image before the first part of the network that they can be computed for."""
    if not case.asked(*_CHECKS):
        return
    calls, _ = case.seen
    if not calls or (case.round == 1 and case.reaches_pixels(plan.path)):
        return
    found = _first_alive(case, calls)
    if found is None:
        return
    asked = case.asked(*_CHECKS)
    plan.path.front, plan.path.stand_in = found.name, None
    same = found.input.shape[1] == case.images.shape[1]
    stand_in, error = _fitted(case, found.name, 5 if same else 1)
    if same and error > _BETTER:
        plan.say(
            asked,
            f"gradients of {found.name} are taken for those of the image: what is before it is passed unchanged",
        )
        return
    plan.path.stand_in = stand_in
    plan.say(
        asked, f"what is before {found.name} is replaced, for gradients only, by a small network fitted to it"
    )


def _first_alive(case: Case, calls: Sequence[ModuleCall]) -> ModuleCall | None:
    """Return the first part that takes pictures and has gradients; in later rounds the last such that takes the image's channels."""
    pictures = [call for call in calls if call.input.dim() == 4 and call.input.shape[0] == len(case.images)]
    pictures = [call for call in pictures if case.alive(case.seen.final, call.input)]
    if case.round > 1:
        same = [call for call in pictures if call.input.shape[1] == case.images.shape[1]]
        return same[-1] if same else None
    return pictures[0] if pictures else None


def _fitted(case: Case, name: str, kernel: int) -> tuple[nn.Module, float]:
    """Return a small network that says from the image what the input of a module is.

    Also its mean squared error, as a part of that of the image itself where that has the same shape.
    """
    inputs: list[Tensor] = []
    module = case.module.get_submodule(name)
    draws = generator(case.seed, "adapt", "stand-in")
    with torch.no_grad():
        batches = []
        for scale in (0.0, 0.05, 0.2):
            noise = scale * torch.randn(case.images.shape, generator=draws).to(case.images)
            images = (case.images + noise).clamp(0, 1)
            hook = module.register_forward_pre_hook(lambda _module, args: inputs.append(args[0].detach()))
            try:
                case.module(images)
            finally:
                hook.remove()
            batches.append(images)
    x, y = torch.cat(batches), torch.cat(inputs)
    if y.shape[2:] != x.shape[2:]:
        x = F.interpolate(x, list(y.shape[2:]), mode="bilinear", align_corners=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)
        net = nn.Sequential(
            nn.Conv2d(x.shape[1], _WIDTH, kernel, padding=kernel // 2),
            nn.SiLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 1),
            nn.SiLU(),
            nn.Conv2d(_WIDTH, y.shape[1], 1),
        ).to(x)
    optimiser = torch.optim.Adam(net.parameters(), _RATE)
    with torch.enable_grad():
        for _ in range(_STEPS):
            optimiser.zero_grad(set_to_none=True)
            F.mse_loss(net(x), y).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        error = float(F.mse_loss(net(x), y).detach())
    unchanged = float(F.mse_loss(x, y)) if x.shape == y.shape else 0.0
    return net.requires_grad_(False), error / unchanged if unchanged > 0 else math.inf
