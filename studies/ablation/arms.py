"""One arm of a retraining comparison: a network built without something, trained from random weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.attacks.base import AttackInputs
from probe.attacks.families.gradient import PGD
from probe.attacks.model import AttackedModel
from probe.attacks.norms import get_norm
from probe.core import seeds
from probe.core.errors import CannotRunError
from probe.core.jobs import unpacked
from probe.graph.cost.summary import Anatomy, anatomy
from probe.graph.edit.cut import cut, find_sites, prepare
from probe.graph.edit.fold import folded
from probe.graph.edit.structure import get_structure
from probe.models.loaded import PixelModel
from probe.train.loop.evaluation import reestimate_batch_norm
from probe.train.loop.fit import DivergedError, Recipe, fit
from probe.train.loop.watch import Epoch, Fault, Watch, dead_units
from studies.ablation.dropout.arm import measure_dropout
from studies.ablation.landscape import IMAGES, landscape
from studies.ablation.plan import evenly_spaced
from studies.ablation.widen import widen_to

ROBUST_IMAGES = 200
"""Robust accuracy is measured on at most this many held-out images."""
ROBUST_STEPS = 20
_RECORDS = 24
"""How often gradient norms are recorded along a training, at most."""


@dataclass(frozen=True)
class Setting:
    """The settings that all arms share.

    ``factories`` build the network, packed, by depth (None: as it is). Images are (N, C, H, W) float32 with C = 1
    where all channels are alike; ``size`` is the network's (C, H, W). ``also`` and the rest as in AblationConfig;
    ``dropout``: whether dropout is removed in some arm, and measured.
    """

    factories: Mapping[int | None, bytes]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int, int]
    channels_last: bool
    device: str
    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    held_images: NDArray[np.float32]
    held_labels: NDArray[np.int64]
    num_classes: int
    recipe: Recipe
    also: tuple[str, ...]
    norm: str
    epsilon: float
    dropout: bool = False


@dataclass(frozen=True)
class Arm:
    """A variant to train: ``cuts`` are the structures removed (none: intact), ``sites`` limits the sites.

    ``match`` is the number of parameters to widen it to, 0 for none.
    """

    cuts: tuple[str, ...]
    seed: int
    depth: int | None = None
    sites: tuple[str, ...] | None = None
    match: int = 0

    @property
    def key(self) -> str:
        """A name of this arm and seed for the journal."""
        return f"{'+'.join(self.cuts) or 'intact'} depth {self.depth} seed {self.seed} match {self.match}"


@dataclass(frozen=True)
class TrainedArm:
    """The results of one arm.

    ``history``: loss and accuracy on the training batches by epoch; ``curve``: held-out accuracy after each epoch.
    ``train_right`` of ``train_n`` and ``right`` (n,) are measured at the end in eval mode. ``steps`` and ``norms``
    (records, layers): L2 norms of each layer's gradient. ``dead`` of ``units`` channels never fire. ``confidence``
    (n,) of the prediction, where calibration was requested; ``robust`` (m,) under PGD, else empty. ``dropout``:
    arrays of ``measure_dropout`` by name, of the intact arm and of that without dropout, else empty. ``landscape``: the loss
    around the weights, where requested.
    """

    arm: Arm
    anatomy: Anatomy
    history: tuple[Epoch, ...]
    curve: tuple[float, ...]
    train_right: int
    train_n: int
    right: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    robust: NDArray[np.bool_]
    layers: tuple[str, ...]
    steps: tuple[int, ...]
    norms: NDArray[np.float64]
    dead: int
    units: int
    fault: Fault | None = None
    removed: int = 0
    widening: float = 1.0
    dropout: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    landscape: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def accuracy(self) -> float:
        """Held-out accuracy; NaN for a training that diverged."""
        return float("nan") if self.fault else float(self.right.mean())

    @property
    def train_error(self) -> float:
        """Error on the training images in eval mode; NaN for a training that diverged."""
        return float("nan") if self.fault else 1 - self.train_right / self.train_n


def build(setting: Setting, arm: Arm) -> tuple[PixelModel, int, float]:
    """Return an arm's network with fresh weights, the number of sites cut, and the widening factor.

    The same seed gives all arms the same weights where they have the same layers.
    """
    factory = unpacked(setting.factories[arm.depth])
    with seeds.scoped(arm.seed, "fresh weights"):
        network: nn.Module = factory()
    example = torch.rand((2, *setting.size), generator=seeds.generator(0, "example"))
    with seeds.scoped(arm.seed, "fresh weights", "of what is put in"):
        graph, removed = _without(network, arm, example)
    factor = 1.0
    if arm.match:
        with seeds.scoped(arm.seed, "fresh weights"):
            wide, factor = widen_to(
                network, arm.match, lambda wider: _without(wider, arm, example)[0], example
            )
        graph, removed = _without(wide, arm, example)
    module = PixelModel(graph, setting.mean, setting.std).requires_grad_(True)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    placed: PixelModel = module.to(device=torch.device(setting.device), memory_format=layout)  # type: ignore[call-overload]
    return placed, removed, factor


def _without(network: nn.Module, arm: Arm, example: Tensor) -> tuple[nn.Module, int]:
    subject = prepare(network.eval(), example)
    if subject.trains:
        raise CannotRunError(f"This network cannot be retrained as a graph: {subject.trains}")
    sites = []
    for text in arm.cuts:
        all_sites = find_sites(subject, get_structure(text))
        sites += [site for site in all_sites if arm.sites is None or site.name in arm.sites]
    return cut(subject, sites), len(sites)


def train_arm(job: tuple[Setting, Arm]) -> TrainedArm:
    """Train one arm and measure it: the same recipe, order of images and augmentation for every arm of a seed."""
    setting, arm = job
    module, removed, factor = build(setting, arm)
    images, labels = _tensors(setting, setting.images, setting.labels)
    held, held_labels = _tensors(setting, setting.held_images, setting.held_labels)
    example = torch.rand((1, *setting.size), generator=seeds.generator(0, "example")).to(setting.device)
    costs = anatomy(module.network, example)
    recipe = setting.recipe
    steps = recipe.epochs * max(1, len(images) // recipe.batch_size)
    watch = Watch(module, -(-steps // _RECORDS))
    curve: list[float] = []
    fault: Fault | None = None
    history: tuple[Epoch, ...] = ()
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    try:
        history = fit(
            module,
            images,
            labels,
            recipe,
            generator=seeds.generator(arm.seed, "training"),
            memory_format=layout,
            watch=watch,
            evaluate=lambda: curve.append(
                float(_correct_predictions(module, held, held_labels, recipe.bf16)[0].mean())
            ),
        )
        reestimate_batch_norm(module, torch.split(images, 128))
    except DivergedError as error:
        fault = error.fault
    module.requires_grad_(False).eval()
    dead = dead_units(module, held, 128) if fault is None else ()
    correct, confidence = _correct_predictions(module, held, held_labels)
    some = list(evenly_spaced(len(labels), IMAGES))
    return TrainedArm(
        arm=arm,
        anatomy=costs,
        history=tuple(history),
        curve=tuple(curve),
        train_right=int(_correct_predictions(_faster(module), images, labels)[0].sum()),
        train_n=len(labels),
        right=correct,
        confidence=confidence if "calibration" in setting.also else np.empty(0),
        robust=_robust(setting, module, held, held_labels, arm.seed) if fault is None else np.empty(0, bool),
        layers=watch.layers,
        steps=tuple(step for step, _ in watch.norms),
        norms=np.array([norms for _, norms in watch.norms]).reshape(len(watch.norms), len(watch.layers)),
        dead=sum(layer[1] for layer in dead),
        units=sum(layer[2] for layer in dead),
        fault=fault,
        removed=removed,
        widening=factor,
        dropout=_dropout(setting, arm, module, held, held_labels) if fault is None else {},
        landscape=landscape(module, images[some], labels[some], arm.seed)
        if "landscape" in setting.also and fault is None
        else np.empty((0, 0)),
    )


def _dropout(
    setting: Setting, arm: Arm, module: PixelModel, held: Tensor, labels: Tensor
) -> dict[str, NDArray[Any]]:
    """Return the measurements at the dropout of an arm without other cuts; empty if not requested."""
    if not setting.dropout or any(get_structure(text).name != "dropout" for text in arm.cuts):
        return {}
    with seeds.scoped(arm.seed, "fresh weights"):
        network: nn.Module = unpacked(setting.factories[arm.depth])()
    example = torch.rand((2, *setting.size), generator=seeds.generator(0, "example"))
    graph = prepare(network.eval(), example).graph
    return measure_dropout(module, graph, held, labels, arm.sites, arm.seed)


def _faster(module: PixelModel) -> PixelModel:
    """Return the same function in eval mode with its batch normalisation folded."""
    mean, std = (tuple(t.flatten().tolist()) for t in (module.normalise.mean, module.normalise.std))
    fast = PixelModel(folded(module.network), mean, std)
    return fast.to(next(module.parameters()).device).eval()


def _tensors(
    setting: Setting, images: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    # A worker's arrays may be mapped read-only; torch needs memory that it owns.
    pixels = torch.from_numpy(np.array(images)).expand(-1, setting.size[0], -1, -1)
    return pixels.to(setting.device), torch.from_numpy(np.array(labels)).to(setting.device)


def _correct_predictions(
    module: nn.Module, images: Tensor, labels: Tensor, bf16: bool = False, batch_size: int = 128
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which predictions are correct (n,) and their confidence (n,), in eval mode.

    ``bf16`` is for the curve along training; final predictions are computed in float32.
    """
    training = module.training
    module.eval()
    correct, confidence = [], []
    try:
        with torch.inference_mode():
            for x, y in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
                with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
                    logits = module(x).double()
                correct.append((logits.argmax(1) == y) & logits.isfinite().all(1))
                confidence.append(logits.softmax(1).amax(1).nan_to_num(0.0))
    finally:
        module.train(training)
    return torch.cat(correct).cpu().numpy(), torch.cat(confidence).cpu().numpy()


def _robust(
    setting: Setting, module: PixelModel, images: Tensor, labels: Tensor, seed: int
) -> NDArray[np.bool_]:
    """Return which held-out images, evenly over them, are correct before and under PGD; empty if not requested.

    Evenly, because the images of a folder are in the order of their classes.
    """
    if "robustness" not in setting.also:
        return np.empty(0, bool)
    norm = get_norm(setting.norm)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    attacked = AttackedModel(module, memory_format=layout, bf16=False)
    robust: list[Tensor] = []
    attack = PGD(steps=ROBUST_STEPS)
    draws = seeds.generator(seed, "robustness")
    some = list(evenly_spaced(len(labels), ROBUST_IMAGES))
    for x, y in zip(torch.split(images[some], 64), torch.split(labels[some], 64), strict=True):
        verdict = attack.judged(AttackInputs(attacked, x.contiguous(), y, norm, setting.epsilon, draws))
        robust.append(~verdict.success)
    return torch.cat(robust).cpu().numpy()


_ARRAYS = ("right", "confidence", "robust", "norms", "landscape")
_DROPOUT = "dropout."


def to_arrays(trained: TrainedArm) -> dict[str, NDArray[Any]]:
    """Return a finished arm as arrays; everything but the arrays is JSON in one of them."""
    arrays = {name: getattr(trained, name) for name in _ARRAYS}
    arrays |= {_DROPOUT + name: array for name, array in trained.dropout.items()}
    plain = dataclasses.asdict(dataclasses.replace(trained, dropout={}))
    plain_fields = {key: value for key, value in plain.items() if key not in (*_ARRAYS, "dropout")}
    arrays["rest"] = np.frombuffer(json.dumps(plain_fields).encode(), dtype=np.uint8)
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> TrainedArm:
    """Return the arm that ``to_arrays`` wrote."""
    plain_fields: dict[str, Any] = json.loads(bytes(arrays["rest"]).decode())
    arm, anatomy_fields, fault = (
        plain_fields.pop("arm"),
        plain_fields.pop("anatomy"),
        plain_fields.pop("fault"),
    )
    arm = Arm(tuple(arm["cuts"]), arm["seed"], arm["depth"], _tuple(arm["sites"]), arm["match"])
    field = anatomy_fields.pop("field")
    if fault is not None:
        fault["last_norms"] = tuple((name, norm) for name, norm in fault["last_norms"])
    return TrainedArm(
        arm=arm,
        anatomy=Anatomy(**anatomy_fields, field=None if field is None else (field[0], field[1])),
        history=tuple(Epoch(**epoch) for epoch in plain_fields.pop("history")),
        fault=None if fault is None else Fault(**fault),
        **{key: _tuple(value) if isinstance(value, list) else value for key, value in plain_fields.items()},
        **dict[str, Any]((name, arrays[name]) for name in _ARRAYS),
        dropout={
            name.removeprefix(_DROPOUT): array for name, array in arrays.items() if name.startswith(_DROPOUT)
        },
    )


def _tuple(value: Any) -> Any:
    return None if value is None else tuple(value)
