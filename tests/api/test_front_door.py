"""The front door: the same numbers as closed forms and plain loops give, by keyword options."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import probe
from probe.core.errors import UsageError


def linear(seed: int = 0, side: int = 6, classes: int = 3) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(side * side, classes))
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(net[1].weight.shape, generator=generator))
        net[1].bias.copy_(torch.randn(classes, generator=generator) * 0.1)
    return net


def inner_images(n: int = 40, side: int = 6) -> Tensor:
    """Images away from the edges of the range, so that the ball is never cut."""
    return 0.4 + 0.2 * torch.rand((n, 1, side, side), generator=torch.Generator().manual_seed(1))


def smallest_linf(net: nn.Module, x: Tensor) -> Tensor:
    """The size of the smallest Linf perturbation that changes a linear network's answer, in closed form."""
    weight, logits = net[1].weight, net(x)
    answers = logits.argmax(1)
    sizes = []
    for row, own in zip(logits, answers, strict=True):
        gaps = [
            (row[own] - row[k]) / (weight[own] - weight[k]).abs().sum() for k in range(len(row)) if k != own
        ]
        sizes.append(min(gaps))
    return torch.stack(sizes).detach()


def test_robust_accuracy_is_exact_on_a_linear_network() -> None:
    net, x = linear(), inner_images()
    y = net(x).argmax(1)
    exact = smallest_linf(net, x)
    eps = float(exact.median()) * 1.001
    report = probe.adversarial(net, (x, y), eps=eps, checks=["random-noise"], views=["curve"])
    assert report["robust_accuracy"].value == (exact > eps).float().mean().item()
    assert report["robust_accuracy"].n == 40
    assert report["robust_accuracy"].interval == probe.stats.wilson(int((exact > eps).sum()), 40)
    assert float(report["clean_accuracy"]) == 1
    assert report.verdict.status in ("pass", "warn", "fail")


def test_an_attack_is_called_like_a_function() -> None:
    net, x = linear(), inner_images()
    exact = smallest_linf(net, x)
    eps = float(exact.median()) * 1.001
    found = probe.attacks.PGD(steps=100)(net, x, net(x).argmax(1), eps=eps)
    assert torch.equal(found.success, exact <= eps)
    assert float((found.images - x).abs().max()) <= eps + 1e-6
    assert torch.equal(found.predictions, net(found.images).argmax(1))
    torch.testing.assert_close(found.sizes, (found.images - x).abs().flatten(1).amax(1))
    own = probe.attacks.PGD(steps=100)(net, x, eps=eps)
    assert torch.equal(own.success, found.success)


def test_an_attack_refuses_what_it_does_not_support() -> None:
    net, x = linear(), inner_images(2)
    with pytest.raises(UsageError, match="Linf"):
        probe.attacks.Square()(net, x, eps=0.1, norm="L0")
    with pytest.raises(UsageError, match=r"probe\.wrap"):
        probe.attacks.PGD()(net, x * 255, eps=0.1)


def test_every_attack_is_exported_under_its_class_name() -> None:
    names = set(dir(probe.attacks))
    assert {"PGD", "FGSM", "DeepFool", "Square", "Fab", "Standard", "Norm", "judge"} <= names
    from probe.attacks.base import ATTACKS

    assert {ATTACKS.get(name).__name__ for name in ATTACKS.names()} <= names
    with pytest.raises(AttributeError):
        probe.attacks.NoSuchAttack  # noqa: B018


def test_a_cut_network_is_the_one_written_without() -> None:
    net = torchvision.models.resnet18(num_classes=5).eval()
    x = torch.rand(2, 3, 32, 32)
    sites = probe.sites(net, "relu", example=x)
    cut = probe.cut(net, "relu", example=x, sites=[sites[0].name])
    with torch.no_grad():
        without = net.bn1(net.conv1(x))
        rest = nn.Sequential(
            net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4, net.avgpool, nn.Flatten(), net.fc
        )
        torch.testing.assert_close(cut(x), rest(without))
    with pytest.raises(UsageError, match="Did you mean"):
        probe.cut(net, "relu", example=x, sites=[sites[0].name + "x"])
    with pytest.raises(UsageError, match="no lrn"):
        probe.cut(net, "lrn", example=x)


def test_a_receptive_field_has_the_size_of_the_formula() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 1, 5))
    field = probe.receptive_field(net, "2", torch.rand(1, 1, 40, 40))
    assert (field.size, field.jump) == ((13, 13), (2, 2))


def test_a_gradient_map_is_autograds() -> None:
    net, x = linear(), inner_images(3)
    x.requires_grad_()
    expected = torch.autograd.grad(net(x)[:, 1].sum(), x)[0]
    found = probe.attribute(net, x.detach(), 1, "gradient")
    assert found.shape == expected.shape
    correlation = np.corrcoef(found.abs().flatten(), expected.abs().flatten())[0, 1]
    assert correlation > 0.999
    complete = probe.attribute(net, x.detach(), [0, 1, 2], "integrated-gradients")
    assert complete.shape == x.shape
    with pytest.raises(UsageError, match="gradcam"):
        probe.attribute(net, x.detach(), 1, "grad-cam")


def test_a_feature_picture_excites_its_channel() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    picture = probe.feature_picture(net, "0:2", size=(32, 32), steps=32)
    noise = torch.rand(20, 3, 32, 32)
    with torch.no_grad():
        assert net[0](picture[None])[0, 2].mean() > net[0](noise)[:, 2].mean((1, 2)).max()
    assert picture.shape == (3, 32, 32)
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1
    assert torch.equal(picture, probe.feature_picture(net, "0:2", size=(32, 32), steps=32))
    for unit in ("0", "0:x", "nowhere:1", "0:99"):
        with pytest.raises(UsageError):
            probe.feature_picture(net, unit, steps=2)


def test_results_are_found_by_name() -> None:
    net, x = linear(), inner_images(8)
    report = probe.filters(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (x, net(x).argmax(1)),
        views=["weights"],
    )
    with pytest.raises(UsageError, match="Did you mean 'accuracy'"):
        report["acuracy"]
    frame = report.to_dataframe()
    assert list(frame.columns) == ["name", "value", "low", "high", "n", "unit"]
    assert frame.set_index("name").loc["accuracy", "value"] == report["accuracy"].value


def test_reports_are_compared_in_memory() -> None:
    x = inner_images(20)
    y = linear(0)(x).argmax(1)
    runs = [
        probe.adversarial(linear(seed), (x, y), eps=0.02, steps=5, checks=[], views=["curve"])
        for seed in (0, 1)
    ]
    report = probe.compare(*runs)
    assert report.study == "compare"
    assert any("clean" in result.name for result in report.all_results)
    with pytest.raises(UsageError, match="two"):
        probe.compare(runs[0])


def test_labels_outside_the_classes_are_refused() -> None:
    net, x = linear(), inner_images(3)
    with pytest.raises(UsageError, match="label 3"):
        probe.adversarial(net, (x, [0, 1, 3]), eps=0.1)


def test_retraining_needs_labels_and_splits_them() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )
    x = torch.rand(40, 1, 8, 8)
    y = (x.mean((1, 2, 3)) > 0.5).long()
    report = probe.ablate(net, (x, y), remove="relu", mode="both", seeds=1, epochs=1)
    assert any(result.name.startswith("retrain_") for result in report.all_results)
    unlabelled = probe.ablate(net, x, remove="relu", mode="auto")
    assert any("no labels" in section.reason for section in unlabelled.sections)


def test_importing_the_front_door_loads_nothing_heavy() -> None:
    code = "import sys, probe; dir(probe); print([m for m in ('torch', 'numpy', 'matplotlib', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_is_loaded() -> None:
    report = probe.anatomy(probe.load_model("zoo:lenet", weights="none"))
    layers = {section.id: section for section in report.sections}
    assert "layers" in layers
    assert report["parameters"].value == sum(
        p.numel() for p in probe.load_model("zoo:lenet", weights="none").network.parameters()
    )


@pytest.mark.parametrize(
    "package",
    [
        "core",
        "data",
        "graph",
        "models",
        "train",
        "tools.anatomy",
        "tools.compare",
        "tools.doctor",
        "tools.dossier",
    ],
)
def test_every_package_exports_its_public_names(package: str) -> None:
    module = importlib.import_module(f"probe.{package}")
    assert module.__doc__
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        module.no_such_name  # noqa: B018


def test_a_report_is_printed_as_its_sentences() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 3))
    data = inner_images(), torch.zeros(40, dtype=torch.long)
    report = probe.filters(net, data, views=["activations"])
    text = repr(report)
    assert text.splitlines()[0] == report.title
    assert "of 40 images" in text
    assert len(text) < 3000
    assert "array(" not in text


@pytest.mark.parametrize("checks", [False, 3])
def test_checks_are_names(checks: object) -> None:
    with pytest.raises(UsageError, match="empty list none"):
        probe.adversarial(linear(), (inner_images(), torch.zeros(40, dtype=torch.long)), checks=checks)
