"""Call one attack on a plain module."""

import torch
import torchvision

import probe

net = torchvision.models.resnet18(
    num_classes=10
)  # takes pixels in [0, 1]; probe.wrap puts a normalisation inside
x, y = torch.rand(8, 3, 32, 32), torch.randint(0, 10, (8,))
found = probe.attacks.PGD(steps=40)(net, x, y, eps=8 / 255)
print(found.success, found.sizes, (found.images - x).abs().max())
