"""Write a structure of one's own that can be taken away: here every tanh hands its input on."""

from dataclasses import dataclass

import torch

import probe
from probe.graph.edit.structure import STRUCTURES, ModuleReplacement


@STRUCTURES.register("tanh")
@dataclass(frozen=True)
class TanhRemoval(ModuleReplacement):
    """A tanh; its input is handed on."""

    name = "tanh"

    def replacement(self, module):
        """Return what takes a module's place, None for modules that are no tanh."""
        return torch.nn.Identity() if isinstance(module, torch.nn.Tanh) else None


net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Tanh(), torch.nn.Conv2d(8, 8, 3))
print([site.name for site in probe.sites(net, "tanh", example=torch.rand(1, 3, 8, 8))])
