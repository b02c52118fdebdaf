"""Take one chart of a report as a matplotlib figure, restyle it, and save it for a paper."""

import torch
import torchvision

import probe

data = probe.images(torch.rand(8, 3, 32, 32), torch.randint(0, 10, (8,)))
report = probe.adversarial(
    torchvision.models.squeezenet1_1(num_classes=10), data, steps=5, checks=[], views=["curve"]
)
figure = report.figure("curve", width=3.3, font=8)  # inches, points
figure.axes[0].set_ylim(0, 1)
figure.savefig("curve.pdf")
