"""Attack a network that is in memory, and know whether to believe the result."""

import torch
import torchvision

import probe

net = torchvision.models.resnet18(num_classes=10)  # yours, with its weights
x, y = torch.rand(16, 3, 32, 32), torch.randint(0, 10, (16,))  # pixels in [0, 1], before normalisation
model = probe.wrap(net, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), classes=list("abcdefghij"))
report = probe.adversarial(model, probe.images(x, y), eps=8 / 255, steps=10)
print(report["robust_accuracy"].value, report["robust_accuracy"].interval, report.verdict.word)
report.save("adversarial-report")
