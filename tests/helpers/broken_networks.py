"""Small networks with one planted fault each, and healthy ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.seeds import scoped
from probe.tools.doctor.checkup import examine
from probe.tools.doctor.diagnosis import Findings


def data(n: int = 96, classes: int = 4, side: int = 8) -> tuple[Tensor, Tensor]:
    """Images whose class is a bright quadrant, in noise, normalised."""
    draws = torch.Generator().manual_seed(1)
    labels = torch.arange(n) % classes
    images = torch.randn(n, 1, side, side, generator=draws) * 0.5
    half = side // 2
    for i, label in enumerate(labels.tolist()):
        row, column = divmod(label % 4, 2)
        images[i, 0, row * half : (row + 1) * half, column * half : (column + 1) * half] += 2.0
    return (images - images.mean()) / images.std(), labels


class Tap(nn.Module):
    """Apply a function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def small(middle: nn.Module | None = None, classes: int = 4, seed: int = 0) -> nn.Sequential:
    with scoped(seed, "patient"):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            middle or nn.Identity(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, classes),
        )


def normed() -> nn.Sequential:
    with scoped(0, "patient"):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 4),
        )


def dense(depth: int, activation: Callable[[], nn.Module], gain: float | None = None) -> nn.Sequential:
    with scoped(0, "patient"):
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, 32), activation()]
        for _ in range(depth):
            layers += [nn.Linear(32, 32), activation()]
        network = nn.Sequential(*layers, nn.Linear(32, 4))
        if gain is not None:
            for layer in network:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=gain / layer.in_features**0.5)
    return network


@dataclass
class Patient:
    """What is given to ``examine``, and what it ought to find."""

    cause: str | None
    module: nn.Module
    images: Tensor
    labels: Tensor
    how: dict[str, Any] = field(default_factory=dict)

    def examine(self, **more: Any) -> Findings:
        return examine(
            self.module, self.images, self.labels, **{"steps": 20, "batch_size": 16, **self.how, **more}
        )


def with_nan_pixel() -> Patient:
    images, labels = data()
    images[37, 0, 2, 3] = float("nan")
    return Patient("input-not-finite", small(), images, labels)


def with_label_outside() -> Patient:
    images, labels = data()
    labels[labels == 3] = 4
    return Patient("labels", small(), images, labels)


def with_nan_weight() -> Patient:
    module = small()
    with torch.no_grad():
        module[3].weight[2, 1, 0, 0] = float("nan")
    return Patient("weights-not-finite", module, *data())


def with_pixels_divided_twice() -> Patient:
    images, labels = data()
    return Patient("input-scale", small(), images / 255, labels)


def with_square_root_of_negatives() -> Patient:
    return Patient("undefined-operation", small(Tap(lambda x: torch.sqrt(x - 0.1))), *data())


def with_root_at_zero() -> Patient:
    """Finite forward; backward, infinity (the root at 0) times 0 is NaN."""
    return Patient("undefined-operation", small(Tap(lambda x: x + torch.sqrt(0 * x))), *data())


def log_of_probability(logits: Tensor, labels: Tensor) -> Tensor:
    return -torch.log(F.relu(torch.softmax(logits, 1) - 0.3)[torch.arange(len(labels)), labels]).mean()


def with_log_of_zero() -> Patient:
    return Patient("undefined-loss", small(), *data(), {"loss": log_of_probability})


def mean_of_rare(logits: Tensor, labels: Tensor) -> Tensor:
    """Weight the loss by a class that no batch has: 0 / 0."""
    rare = (labels == 9).float()
    return (F.cross_entropy(logits, labels, reduction="none") * rare).sum() / rare.sum()


def with_zero_by_zero() -> Patient:
    return Patient("undefined-loss", small(), *data(), {"loss": mean_of_rare})


def with_float16() -> Patient:
    """Outputs near 2e5: no trouble in float32, beyond the 65,504 of float16."""
    module = small(Tap(lambda x: x * 4e5))
    with torch.no_grad():
        module[3].weight.mul_(1e-5)
    return Patient("overflow", module, *data(), {"precision": "float16"})


def with_large_weights() -> Patient:
    return Patient("exploding-gradients", dense(12, nn.ReLU, gain=8.0), *data(), {"optimiser": "sgd"})


def with_overflowing_weights() -> Patient:
    return Patient("exploding-gradients", dense(40, nn.ReLU, gain=20.0), *data())


def with_many_sigmoids() -> Patient:
    return Patient("vanishing-gradients", dense(12, nn.Sigmoid), *data(), {"optimiser": "sgd"})


def with_low_biases() -> Patient:
    module = small()
    with torch.no_grad():
        module[3].bias.fill_(-30.0)
    return Patient("dead-relus", module, *data())


def with_large_rate() -> Patient:
    return Patient("learning-rate", small(), *data(), {"optimiser": "sgd", "lr": 10.0})


def with_small_rate() -> Patient:
    return Patient("learning-rate", small(), *data(), {"optimiser": "sgd", "lr": 1e-3})


def log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of a softmax by hand: it is −∞ as soon as the logits are far apart."""
    return F.nll_loss(torch.log(torch.softmax(logits, 1)), labels)


def with_exploding_first_update() -> Patient:
    """The loss is infinite from the second step on, because the first update blew up the logits."""
    return Patient("learning-rate", small(), *data(), {"optimiser": "sgd", "lr": 1e4, "loss": log_likelihood})


def with_exploding_first_update_in_float16() -> Patient:
    how = {"optimiser": "sgd", "lr": 3e3, "precision": "float16"}
    return Patient("learning-rate", small(), *data(), how)


def with_rate_a_thousand_times_too_small() -> Patient:
    return Patient("learning-rate", small(), *data(), {"lr": 1e-6})


def filled(module: nn.Sequential, value: float, *layers: int) -> nn.Sequential:
    with torch.no_grad():
        for place in layers:
            for parameter in module[place].parameters():
                parameter.fill_(value)
    return module


def with_zero_weights() -> Patient:
    return Patient("equal-weights", filled(small(), 0.0, 0, 3, 7), *data())


def with_one_layer_of_zeros() -> Patient:
    return Patient("equal-weights", filled(small(), 0.0, 0), *data())


def with_equal_units() -> Patient:
    """The loss falls, but all units of a layer remain one and the same."""
    return Patient("equal-weights", filled(dense(2, nn.Tanh), 0.05, 1, 3, 5, 7), *data())


def with_nll_of_logits() -> Patient:
    return Patient("nll-of-logits", small(), *data(), {"loss": F.nll_loss})


def with_nll_of_probabilities() -> Patient:
    return Patient("nll-of-logits", small().append(nn.Softmax(1)), *data(), {"loss": F.nll_loss})


def with_softmax_twice() -> Patient:
    return Patient("double-softmax", small().append(nn.Softmax(1)), *data())


def with_softmax_and_smoothed_labels() -> Patient:
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    return Patient("double-softmax", small().append(nn.Softmax(1)), *data(), {"loss": loss})


def with_negative_loss() -> Patient:
    return Patient(
        "loss-sign", small(), *data(), {"loss": lambda outputs, labels: -F.cross_entropy(outputs, labels)}
    )


def with_reciprocal_loss() -> Patient:
    """A loss that falls while the accuracy does: not a known one, and found by its effect."""
    return Patient(
        "loss-sign",
        small(),
        *data(),
        {"loss": lambda outputs, labels: 1 / (F.cross_entropy(outputs, labels) + 1e-3)},
    )


def with_negative_binary_loss() -> Patient:
    """All outputs fall without limit, and the accuracy stays at chance."""

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(outputs, F.one_hot(labels, 4).float())

    return Patient("loss-sign", small(), *data(), {"loss": loss, "steps": 40})


def with_ascent() -> Patient:
    def ascend(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr, momentum=0.9, maximize=True)

    return Patient("loss-sign", small(), *data(), {"optimiser": ascend, "lr": 0.03})


SICK: tuple[Callable[[], Patient], ...] = (
    with_nan_pixel,
    with_label_outside,
    with_nan_weight,
    with_pixels_divided_twice,
    with_square_root_of_negatives,
    with_root_at_zero,
    with_log_of_zero,
    with_zero_by_zero,
    with_float16,
    with_large_weights,
    with_overflowing_weights,
    with_many_sigmoids,
    with_low_biases,
    with_large_rate,
    with_small_rate,
    with_exploding_first_update,
    with_exploding_first_update_in_float16,
    with_rate_a_thousand_times_too_small,
    with_zero_weights,
    with_one_layer_of_zeros,
    with_equal_units,
    with_nll_of_logits,
    with_nll_of_probabilities,
    with_softmax_twice,
    with_softmax_and_smoothed_labels,
    with_negative_loss,
    with_reciprocal_loss,
    with_negative_binary_loss,
    with_ascent,
)


def healthy_plain() -> Patient:
    return Patient(None, small(), *data())


def healthy_normed() -> Patient:
    return Patient(None, normed(), *data(), {"optimiser": "sgd"})


def healthy_pixels() -> Patient:
    """Pixels in [0, 1], as they come without any normalisation."""
    images, labels = data()
    images = (images - images.min()) / (images.max() - images.min())
    return Patient(None, dense(2, nn.Tanh), images, labels)


def healthy_small_rate() -> Patient:
    """A fifth of the usual rate, which takes the usual training several times as long."""
    return Patient(None, small(), *data(), {"lr": 2e-4, "steps": 40})


def healthy_log_softmax() -> Patient:
    return Patient(None, small().append(nn.LogSoftmax(1)), *data(), {"loss": F.nll_loss})


def healthy_redundant_log_softmax() -> Patient:
    """The log_softmax of a log_softmax is the same."""
    return Patient(None, small().append(nn.LogSoftmax(1)), *data())


def healthy_zero_head() -> Patient:
    """A last layer that begins at 0 on purpose."""
    return Patient(None, filled(small(), 0.0, 7), *data(), {"steps": 40})


HEALTHY: tuple[Callable[[], Patient], ...] = (
    healthy_plain,
    healthy_normed,
    healthy_pixels,
    healthy_small_rate,
    healthy_log_softmax,
    healthy_redundant_log_softmax,
    healthy_zero_head,
)
