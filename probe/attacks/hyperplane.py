"""The nearest point of a hyperplane within the box [0, 1], in three norms.

Given x in [0, 1]^D, a normal w and a deficit c ≥ 0: the smallest d with ⟨w, d⟩ = c and x + d in [0, 1]. Each
value can move by ``room`` in the direction of its weight, so all three are one-dimensional problems over
sorted values (Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary
attack"). Where even the whole box cannot reach the hyperplane, the corner nearest to it is given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from probe.attacks.norms import L1, L2, Linf, Norm


def step_to_hyperplane(x: Tensor, normal: Tensor, deficit: Tensor, norm: Norm) -> Tensor:
    """Return the smallest step (N, D) from ``x`` (N, D) that adds ``deficit`` (N,) to ⟨normal, x⟩ within [0, 1].

    ``normal`` (N, D). A negative deficit steps the other way. Raises ValueError for a norm without such a rule.
    """
    signed = normal * deficit.sign()[:, None]
    weight, room = signed.abs(), torch.where(signed > 0, 1 - x, x)
    room = torch.where(weight > 0, room.clamp_min(0), torch.zeros_like(room))
    need = deficit.abs()
    if isinstance(norm, Linf):
        length = _linf(weight, room, need)
    elif isinstance(norm, L2):
        length = _l2(weight, room, need)
    elif isinstance(norm, L1):
        length = _l1(weight, room, need)
    else:
        raise ValueError(f"no projection onto a hyperplane in {norm.name}")
    return length * signed.sign()


def _linf(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Σ w min(t, room) = need, increasing and concave in t."""
    ordered, order = room.sort(dim=1)
    sorted_weight = weight.gather(1, order)
    spent = (sorted_weight * ordered).cumsum(1)
    left = sorted_weight.sum(1, keepdim=True) - sorted_weight.cumsum(1)
    reached = spent + ordered * left  # the gain at t = ordered[i]
    threshold = _solve(reached, ordered, spent, left, sorted_weight, need)
    return torch.minimum(room, threshold[:, None])


def _l2(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Σ w min(t w, room) = need."""
    limits = torch.where(weight > 0, room / weight.clamp_min(1e-38), torch.zeros_like(room))
    ordered, order = limits.sort(dim=1)
    squares = (weight * weight).gather(1, order)
    spent = (weight * room).gather(1, order).cumsum(1)
    left = squares.sum(1, keepdim=True) - squares.cumsum(1)
    reached = spent + ordered * left
    threshold = _solve(reached, ordered, spent, left, squares, need)
    return torch.minimum(room, threshold[:, None] * weight)


def _solve(
    reached: Tensor, ordered: Tensor, spent: Tensor, left: Tensor, rate: Tensor, need: Tensor
) -> Tensor:
    """Return t where the piecewise linear gain meets ``need``; the last breakpoint where it never does."""
    count = reached.shape[1]
    place = torch.searchsorted(reached.cummax(1).values.contiguous(), need[:, None].contiguous())
    inside = place.clamp_max(count - 1)
    before = (inside - 1).clamp_min(0)
    first = inside == 0
    base = torch.where(first, 0.0, spent.gather(1, before))
    slope = torch.where(first, left.gather(1, inside) + rate.gather(1, inside), left.gather(1, before))
    t = (need[:, None] - base) / slope.clamp_min(1e-38)
    t = torch.where(place >= count, ordered[:, -1:], t.clamp_min(0))
    return torch.where(slope > 0, torch.minimum(t, ordered[:, -1:]), ordered[:, -1:])[:, 0]


def _l1(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Spend the values with the largest weights first; the last one in part."""
    order = weight.argsort(dim=1, descending=True)
    gain = (weight * room).gather(1, order)
    before = gain.cumsum(1) - gain
    share = ((need[:, None] - before) / gain.clamp_min(1e-38)).clamp(0, 1)
    part = torch.zeros_like(share).scatter_(1, order, share)
    return part * room
