"""Count layers, parameters, MACs, receptive fields and paths; and use the statistics."""

import torchvision

import probe

report = probe.anatomy(torchvision.models.resnet18(), input_size=224)
print(report["parameters"].value, report["paths"].value, float(report["GMACs"]))
print(probe.stats.wilson(3, 10))
