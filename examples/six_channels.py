"""Study a network of six-channel images that a Dataset yields."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import probe

net = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
data = TensorDataset(torch.rand(16, 6, 24, 24), torch.randint(0, 8, (16,)))  # or a DataLoader
model = probe.wrap(net, classes=list("abcdefgh"), input_size=(6, 24, 24))
report = probe.filters(model, probe.images(data), views=["weights", "patches", "stimuli"])
print(*report.headline, *report.warnings, sep="\n")
