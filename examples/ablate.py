"""Take the shortcuts of a network away, and measure what they were worth."""

import torch
import torchvision

import probe

model = probe.wrap(torchvision.models.resnet18(num_classes=10))
images = probe.images(torch.rand(16, 3, 32, 32), torch.randint(0, 10, (16,)))
report = probe.ablate(model, images, remove="shortcut", mode="lesion")
print(*report.headline, sep="\n")
