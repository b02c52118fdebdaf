"""Set two networks side by side, with paired tests on the same images."""

import torch
import torchvision

import probe

data = probe.images(torch.rand(16, 3, 32, 32), torch.randint(0, 10, (16,)))
nets = (torchvision.models.resnet18(num_classes=10), torchvision.models.squeezenet1_1(num_classes=10))
runs = [probe.adversarial(net, data, eps=0.03, steps=5, checks=[], views=["curve"]) for net in nets]
print(*probe.compare(*runs).headline, sep="\n")
