"""Write a view of one's own: a section of the report of `probe filters`, with a table."""

import torch

import probe
from probe.core import Column, Section, Table
from studies.filters.registries import VIEWS


@VIEWS.register("sizes")
def sizes(space):
    """Parameters of each layer."""
    rows = tuple((name, value.numel()) for name, value in space.model.network.named_parameters())
    return Section("sizes", "Sizes", blocks=(Table("Parameters", (Column("name"), Column("number")), rows),))


net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 3))
probe.filters(net, torch.rand(20, 3, 8, 8), views=["sizes", "weights"]).save("own-view")
