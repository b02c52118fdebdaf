"""Write an attack of one's own: it proposes images, and the judge of all attacks decides."""

from dataclasses import dataclass

import torch

from probe.attacks.base import Attack, Traits


@dataclass(frozen=True)
class Brighten(Attack):
    """Make every pixel brighter by epsilon."""

    traits = Traits(norms=("Linf",), access="none", paper="none")

    def _perturb(self, inputs):
        return inputs.images + inputs.epsilon


net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
print(Brighten()(net, torch.rand(4, 3, 4, 4), torch.tensor([0, 1, 2, 0]), eps=0.1).success)
