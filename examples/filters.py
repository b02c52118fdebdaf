"""Look at what a network has learned."""

import torch
import torchvision

import probe

model = probe.wrap(torchvision.models.resnet18(num_classes=10))
report = probe.filters(model, torch.rand(16, 3, 32, 32), views=["weights", "patches"])
print(*report.headline, sep="\n")
report.save("filters-report")
