"""Ask why a training fails, with a loss of one's own."""

import torch
import torchvision
from torch.nn.functional import cross_entropy

import probe

net = torchvision.models.resnet18(num_classes=10)
x, y = torch.rand(64, 3, 32, 32), torch.randint(0, 10, (64,))
report = probe.doctor(
    net, (x, y), loss=lambda logits, labels: cross_entropy(logits, labels), lr=30, steps=20, sweep=False
)
print(*report.headline, sep="\n")
