"""See what one unit sees, what excites it most, and which pixels decide."""

import torch
import torchvision

import probe

net, x = torchvision.models.resnet18(num_classes=10), torch.rand(2, 3, 64, 64)
print(probe.receptive_field(net, "layer3", x[:1]).size)
picture = probe.feature_picture(net, "layer3:7", steps=8)  # (3, H, W) in [0, 1]
maps = probe.attribute(net, x, [3, 5], "integrated-gradients")  # (2, 3, 64, 64)
print(picture.shape, maps.shape)
