"""Write an attack of one's own: it proposes images, and the judge of all attacks decides."""

from dataclasses import dataclass

import torch

import probe


@probe.attacks.ATTACKS.register("brighten")
@dataclass(frozen=True)
class Brighten(probe.attacks.Attack):
    """Make every pixel brighter by epsilon."""

    traits = probe.attacks.Traits(norms=("Linf",), access="none", paper="none")

    def _perturb(self, inputs):
        return inputs.images + inputs.epsilon


net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
print(probe.adversarial(net, torch.rand(20, 3, 4, 4), attacks=["brighten", "pgd"], checks=[]))
