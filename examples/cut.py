"""Find the places where a structure occurs, and cut it out of a network."""

import torch
import torchvision

import probe

net, x = torchvision.models.resnet18(num_classes=10), torch.rand(8, 3, 32, 32)
print([site.name for site in probe.sites(net, "shortcut", example=x[:1])])
plain = probe.cut(net, "shortcut", example=x[:1])
print((plain(x) - net.eval()(x)).abs().max())
