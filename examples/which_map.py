"""Ask which attribution map to trust for a network."""

import torch
import torchvision

import probe

net = torchvision.models.squeezenet1_1(num_classes=10)
report = probe.filters(net, probe.images(torch.rand(8, 3, 64, 64)), views=["trust"], steps=2)
for result in [result for result in report.all_results if "deletion" in result.name][:5]:
    print(result.name, result.value, result.ci)
