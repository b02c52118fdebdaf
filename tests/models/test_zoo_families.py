"""The families of the zoo against the papers' counts, and against what each paper claims of its structure."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.graph.receptive_field.field import receptive_field
from probe.models.load import find_architecture, load_model
from probe.models.source import ZOO, Access, Build
from probe.models.zoo.alexnet import AlexNet
from probe.models.zoo.densenet import DenseNet
from probe.models.zoo.inception import GoogLeNet, Inception
from probe.models.zoo.nin import NIN
from probe.models.zoo.resnet import PreActivationBlock, ResNet
from probe.models.zoo.resnext import ResNeXt
from probe.models.zoo.vgg import VGG
from probe.train.loop.fit import Recipe, fit

VARIANTS = (
    "alexnet?norm=batch",
    "inception?version=2",
    "inception?version=3&n=5",
    "inception?auxiliary=True",
    "nin?norm=none&dropout=0",
    "resnet?version=2",
    "resnet?version=2&option=B&shortcut=False",
    "resnet?depth=11&block=bottleneck",
    "resnet?depth=11&block=bottleneck&version=2&option=B",
    "resnext?depth=11&cardinality=4&shortcut=False",
    "densenet?depth=10&bottleneck=False&compression=1&dropout=0.2",
    "vgg?field=7&stacked=False&norm=batch",
)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "millions", "digits"),
    [
        # He et al. 2016, table 2: ResNet-164 with bottlenecks, both versions.
        (lambda: ResNet(164, version=2, block="bottleneck"), 1.7, 1),
        # Huang et al. 2016, table 2.
        (lambda: DenseNet(40, growth=12, bottleneck=False, compression=1.0), 1.0, 1),
        (lambda: DenseNet(100, growth=12), 0.8, 1),
        (lambda: DenseNet(250, growth=24), 15.3, 1),
        # Xie et al. 2016, table 7: ResNeXt-29, 8×64d and 16×64d.
        (lambda: ResNeXt(29, cardinality=8, width=64, channels=256), 34.4, 1),
        (lambda: ResNeXt(29, cardinality=16, width=64, channels=256), 68.1, 1),
        # Lin et al. 2013, the network for CIFAR-10 in the authors' Caffe definition.
        (lambda: NIN(width=192, norm="none"), 0.97, 2),
    ],
)
def test_parameters_of_the_papers(network: object, millions: float, digits: int) -> None:
    with torch.device("meta"):
        found = count(network())  # type: ignore[operator]
    # Some tables round, others cut off.
    assert abs(found / 1e6 - millions) < 0.6 * 10**-digits


@pytest.mark.parametrize("text", VARIANTS)
def test_every_variant_runs_and_trains(text: str) -> None:
    network = find_architecture(f"zoo:{text}", Access(True)).build(Build(4, None))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert network.eval()(images).shape == (2, 4)
    outputs = network.train()(images)
    first, *others = outputs if isinstance(outputs, tuple) else (outputs,)
    (first.square().sum() + sum(other.square().sum() for other in others)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vgg?field=4", "field=3"),
        ("inception?version=4", "version=1, 2 or 3"),
        ("inception?n=4", "odd"),
        ("inception?width=20", "multiple of 16"),
        ("resnet?depth=20&version=3", "version=1 or version=2"),
        ("resnet?depth=21&block=bottleneck", "9n + 2"),
        ("resnet?block=wide", "block=basic"),
        ("resnext?depth=21", "9n \\+ 2"),
        ("densenet?depth=40&growth=0", "growth at least 1"),
        ("densenet?depth=21", "6n \\+ 4"),
        ("nin?norm=lrn", "norm=batch"),
    ],
)
def test_options_without_a_meaning_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("9n + 2", "9n \\+ 2")):
        load_model(f"zoo:{text}", weights="none", device="cpu", offline=True)


def test_zero_weights_leave_the_identity_in_version_two_only() -> None:
    """Identity mappings: with nothing in the branch, version 2 hands on what came in, version 1 rectifies it."""
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    for bottleneck in (False, True):
        block = PreActivationBlock(8, 8, 1, True, "A", bottleneck).eval()
        nn.init.zeros_(list(block.branch.children())[-1].weight)  # type: ignore[arg-type]
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("option", ["A", "B"])
def test_version_two_by_hand(option: str) -> None:
    """Pre-activation written out from the paper, in float64, from the state dict alone."""
    network = ResNet(8, version=2, option=option).double().eval()  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(0)
    for name, value in network.named_buffers():
        if name.endswith(("mean", "var")):
            value.copy_(torch.rand(value.shape, generator=draw, dtype=torch.float64) + 0.5)
    state = network.state_dict()
    x = torch.rand(2, 3, 32, 32, generator=draw, dtype=torch.float64)

    def ready(x: Tensor, key: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{key}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)

    h = F.conv2d(x, state["conv1.weight"], padding=1)
    for stage in (1, 2, 3):
        key, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        a = ready(h, f"{key}.bn1")
        out = F.conv2d(a, state[f"{key}.branch.0.weight"], stride=stride, padding=1)
        out = F.conv2d(ready(out, f"{key}.branch.1"), state[f"{key}.branch.3.weight"], padding=1)
        if stride == 1:
            h = out + a  # the first block's paths part behind the activation
        elif option == "A":
            zeros = torch.zeros_like(out)[:, : out.shape[1] // 4]
            h = out + torch.cat([zeros, a[:, :, ::2, ::2], zeros], 1)
        else:
            h = out + F.conv2d(a, state[f"{key}.shortcut.weight"], stride=2)
    wanted = ready(h, "head.0").mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(network(x), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("field", [3, 5, 7])
def test_twins_of_vgg_see_the_same(field: int) -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    twins = [VGG(field=field, stacked=stacked) for stacked in (True, False)]
    seen = [receptive_field(twin.eval(), "stage2", image) for twin in twins]
    assert seen[0].size == seen[1].size
    costs = [sum(p.numel() for p in twin.stage2.parameters() if p.dim() > 1) for twin in twins]
    # From C to 2C channels: one 3×3 of C·2C and the others of 2C·2C, against k² of C·2C.
    width = 24
    stack = 9 * (2 * width**2 + (field // 2 - 1) * 4 * width**2)
    assert costs == [stack, field**2 * 2 * width**2]


def test_inception_modules_see_what_their_kernels_say() -> None:
    x = torch.randn(1, 16, 24, 24, generator=torch.Generator().manual_seed(0))
    reach = {}
    for version in (1, 2, 3):
        module = Inception(16, 32, version, 7, batch=False).eval()
        for parameter in module.parameters():
            nn.init.ones_(parameter)
        leaf = x.abs().requires_grad_(True)
        # Positive weights and inputs: no ReLU stops a gradient, so its support is what the arm sees.
        module.large(leaf)[0, 0, 12, 12].backward()
        assert leaf.grad is not None
        rows, columns = (leaf.grad.abs().sum((0, 1, dim)) > 0 for dim in (3, 2))
        reach[version] = (int(rows.sum()), int(columns.sum()))
    assert reach == {1: (5, 5), 2: (5, 5), 3: (13, 13)}


def test_auxiliary_logits_are_there_in_training_only_and_weigh_three_tenths() -> None:
    network = GoogLeNet(auxiliary=True, dropout=0.0)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    twin = GoogLeNet(auxiliary=True, dropout=0.0)
    twin.load_state_dict(network.state_dict())
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    recipe = Recipe(epochs=1, batch_size=4, lr=0.1, weight_decay=0.0, schedule="constant")
    history = fit(network, images, labels, recipe, generator=torch.Generator().manual_seed(1))
    order = torch.Generator().manual_seed(1)
    torch.randint(2**62, (1,), generator=order)
    part = torch.randperm(4, generator=order)
    logits, auxiliary = twin.train()(images[part])
    loss = F.cross_entropy(logits, labels[part]) + 0.3 * F.cross_entropy(auxiliary, labels[part])
    assert history[0].loss == pytest.approx(float(loss.detach()), rel=1e-5)
    loss.backward()
    optimiser = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9, nesterov=True)
    optimiser.step()
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_dense_layers_keep_every_older_map() -> None:
    network = DenseNet(22).eval()
    x = torch.rand(1, 24, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        grown = network.block1(x)
    assert grown.shape[1] == 24 + 3 * 12
    assert torch.equal(grown[:, :24], x)
    with torch.no_grad():
        assert network.transition1(grown).shape == (1, 30, 4, 4)


def test_groups_of_resnext_do_not_mix() -> None:
    block = ResNeXt(11, cardinality=8).layer1[0]
    conv = block.conv2
    assert conv.groups == 8
    assert conv.weight.shape == (32, 4, 3, 3)


def test_alexnet_and_the_others_share_the_published_response_normalisation() -> None:
    for network in (AlexNet(), GoogLeNet()):
        norms = [sub for sub in network.modules() if isinstance(sub, nn.LocalResponseNorm)]
        assert len(norms) == 2
        # Published α = 1e-4 multiplies the sum; torch divides its α by n = 5.
        assert all(norm.size == 5 and norm.alpha == 5e-4 and norm.beta == 0.75 for norm in norms)


def test_every_family_of_the_document_is_there() -> None:
    families = {"alexnet", "densenet", "inception", "lenet", "nin", "resnet", "resnext", "vgg"}
    assert families <= set(ZOO.names())
