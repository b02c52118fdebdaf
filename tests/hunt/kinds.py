"""What the hunt tries: each kind is a strategy, and a function that returns what became of an example.

A function raises where a user's input ends as an exception that is no ProbeError, or where something is read otherwise than
plain PyTorch reads it and nothing is said about it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import importlib.util
import io
import json
import sys
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from probe.cli import main as cli
from probe.core.errors import ProbeError
from probe.data.load import load_images
from probe.models.load import load_model
from probe.models.pair import load_both
from probe.models.weights.checkpoint import read_checkpoint

TAKEN, REFUSED = "taken", "refused with a reason"
NAMES = st.sampled_from(
    [
        "cat",
        "dog",
        "toad",
        "Great White",
        "n01440764",
        "n02102040",
        "0",
        "1",
        "2",
        "10",
        "01",
        "train",
        "val",
        "__MACOSX",
    ]
)


class ReadWrongError(Exception):
    """Something was read otherwise than PyTorch reads it, without a word."""


# ------------------------------------------------------------------------------------------------ networks

OUTPUTS = {
    "z": "z",
    "tuple": "(z, f)",
    "dict": "{'logits': z, 'features': f}",
    "list": "[f, z]",
    "named": "Named(z, f)",
    "two": "(z, 2 * z)",
    "one": "z[:, :1]",
    "bare": "z[:, 0]",
    "maps": "f",
    "none": "None",
    "numpy": "z.detach().numpy()",
    "integers": "z.argmax(1)",
}
WRAPPERS = {
    "none": "net",
    "parallel": "nn.DataParallel(net)",
    "averaged": "torch.optim.swa_utils.AveragedModel(net)",
    "double": "net.double()",
    "half": "net.half()",
    "bfloat16": "net.bfloat16()",
    "train": "net.train()",
    "frozen": "net.requires_grad_(False)",
    "scripted": "torch.jit.script(net)",
}


@dataclass(frozen=True)
class Net:
    """A network's source: channels, side, classes, the form of its output, and what is around it."""

    channels: int
    side: int
    classes: int
    output: str
    wrapper: str
    sized: bool
    norm: bool
    lazy: bool
    argument: str

    @property
    def source(self) -> str:
        """The text of net.py."""
        conv = "nn.LazyConv2d(4, 3)" if self.lazy else f"nn.Conv2d({self.channels}, 4, 3)"
        norm = "nn.BatchNorm2d(4)" if self.norm else "nn.Identity()"
        sized = f"self.input_size = ({self.channels}, {self.side}, {self.side})" if self.sized else "pass"
        return f"""
import torch
from collections import namedtuple
from torch import nn
Named = namedtuple("Named", "logits features")
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = {conv}, {norm}
        self.fc = nn.Linear(4, {self.classes})
        {sized}
    def forward(self, x{self.argument}):
        f = torch.relu(self.norm(self.conv(x)))
        z = self.fc(f.mean((2, 3)))
        return {OUTPUTS[self.output]}
def net():
    torch.manual_seed(0)
    net = Net()
    {f"net.eval()(torch.zeros(2, {self.channels}, {self.side}, {self.side}))" if self.lazy else "pass"}
    return {WRAPPERS[self.wrapper]}
"""


def networks() -> st.SearchStrategy[Net]:
    """Return the strategy of networks."""
    return st.builds(
        Net,
        channels=st.sampled_from([1, 3, 6]),
        side=st.sampled_from([5, 8, 16]),
        classes=st.integers(2, 4),
        output=st.sampled_from(sorted(OUTPUTS)),
        wrapper=st.sampled_from(sorted(WRAPPERS)),
        sized=st.booleans(),
        norm=st.booleans(),
        lazy=st.booleans(),
        argument=st.sampled_from(["", ", meta=None", ", meta", ", *rest", ", **rest"]),
    )


def try_network(net: Any, folder: Path) -> str:
    """Load a network by its file, and compare its logits with its own."""
    (folder / "net.py").write_text(net.source)
    try:
        model = load_model(f"{folder}/net.py:net", img_size=net.side, offline=True, device="cpu")
    except ProbeError:
        return REFUSED
    if model.input.size[0] != net.channels:
        return REFUSED if net.wrapper == "scripted" else _wrong("the number of channels", model.input.size)
    pixels = torch.rand(3, *model.input.size, generator=torch.Generator().manual_seed(1))
    own = _module(folder / "net.py").net()
    for _ in range(2):
        own = getattr(own, "module", own)
    with torch.no_grad():
        output = own.float().eval()(pixels)
    expected = {
        "tuple": lambda o: o[0],
        "dict": lambda o: o["logits"],
        "list": lambda o: o[1],
        "named": lambda o: o.logits,
    }
    logits = expected.get(net.output, lambda o: o)(output)
    if net.output in ("one", "bare"):
        logits = torch.cat([torch.zeros(3, 1), logits.reshape(3, 1)], 1)
    if not torch.allclose(model.logits(pixels), logits, atol=1e-5):
        return _wrong("the logits", net)
    return TAKEN


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("hunted", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["hunted"] = module
    spec.loader.exec_module(module)
    return module


def _wrong(what: str, example: object) -> str:
    raise ReadWrongError(f"{what} differ: {example}")


# ------------------------------------------------------------------------------------------------ checkpoints

EXTRAS: dict[str, Any] = {
    "epoch": 3,
    "best": torch.tensor(0.9),
    "args": argparse.Namespace(lr=0.1),
    "path": Path("x"),
    "numpy": np.float64(0.5),
    "array": np.arange(3.0),
    "partial": functools.partial(torch.optim.SGD, lr=0.1),
    "counter": Counter("ab"),
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(4, 1, 3, 3)}}, "param_groups": []},
    "teacher": {"weight": torch.zeros(2, 2)},
}
CHECKED = Net(1, 8, 3, "z", "none", True, True, False, "")


@dataclass(frozen=True)
class Saved:
    """How a checkpoint was saved."""

    keys: tuple[str, ...]
    prefix: str
    extras: tuple[str, ...]
    beside: tuple[str, ...]
    dtype: str
    suffix: str
    form: str
    averaged: bool


def checkpoints() -> st.SearchStrategy[Saved]:
    """Return the strategy of checkpoints."""
    key = st.sampled_from(["state_dict", "model", "net", "ema", "weights", "my key", "module"])
    return st.builds(
        Saved,
        keys=st.lists(key, max_size=3).map(tuple),
        prefix=st.sampled_from(["", "module.", "model.", "net.", "a.b.", "module.model.", "_orig_mod."]),
        extras=st.lists(st.sampled_from(sorted(EXTRAS)), max_size=3, unique=True).map(tuple),
        beside=st.lists(
            st.sampled_from(["criterion.weight", "val_acc.tp", "loss_fn.w"]), max_size=2, unique=True
        ).map(tuple),
        dtype=st.sampled_from(["float32", "float16", "float64", "bfloat16", "int32", "complex64"]),
        suffix=st.sampled_from(["pth", "pth.tar", "ckpt", "bin", "safetensors", "weights", "PT"]),
        form=st.sampled_from(["zip", "legacy", "safetensors", "whole"]),
        averaged=st.booleans(),
    )


def try_checkpoint(saved: Any, folder: Path) -> str:
    """Load a checkpoint into the network that it was made from, and compare the logits."""
    (folder / "net.py").write_text(CHECKED.source)
    own = _module(folder / "net.py").net().eval()
    with torch.no_grad():
        for value in own.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=torch.Generator().manual_seed(2)).half())
    dtype = getattr(torch, saved.dtype)
    state = {
        saved.prefix + key: value.to(dtype) if value.is_floating_point() else value
        for key, value in own.state_dict().items()
    }
    state |= {key: torch.ones(3) for key in saved.beside}
    content: Any = OrderedDict(state)
    for key in reversed(saved.keys):
        content = {key: content, **{name: EXTRAS[name] for name in saved.extras}}
    if saved.averaged and saved.keys:
        content["ema_state"] = {key: torch.zeros_like(value) for key, value in state.items()}
    path = folder / f"w.{saved.suffix}"
    if saved.form == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(
            own if saved.form == "whole" else content,
            path,
            _use_new_zipfile_serialization=saved.form != "legacy",
        )
    try:
        model = load_model(f"{folder}/net.py:net", weights=path, offline=True, device="cpu")
    except ProbeError:
        return REFUSED
    pixels = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        same = torch.allclose(model.logits(pixels), own(pixels), atol=1e-2)
    if not same and not any("averaged" in note or "partially" in note for note in model.info().notes):
        return _wrong("the logits", saved)
    return TAKEN


# ------------------------------------------------------------------------------------------------ folders


@dataclass(frozen=True)
class Classes:
    """Class folders, and what the network says about its classes."""

    folders: tuple[str, ...]
    known: tuple[str, ...]
    count: int


def folders() -> st.SearchStrategy[Classes]:
    """Return the strategy of class folders."""
    return st.builds(
        Classes,
        folders=st.lists(NAMES, min_size=1, max_size=5, unique=True).map(tuple),
        known=st.lists(NAMES, max_size=5, unique=True).map(tuple),
        count=st.integers(2, 5),
    )


def try_folder(classes: Any, folder: Path) -> str:
    """Read class folders for a network; a label must be the one of that name, of that number, or of that order."""
    data = folder / "data"
    for name in classes.folders:
        (data / name).mkdir(parents=True)
        Image.new("L", (8, 8), 90).save(data / name / "x.png")
    known = classes.known if len(classes.known) > 1 else ()
    count = len(known) or classes.count
    (folder / "net.py").write_text(Net(1, 8, count, "z", "none", True, False, False, "").source)
    try:
        _, images = load_both(
            f"{folder}/net.py:net", str(data), labels=list(known) or None, offline=True, device="cpu"
        )
    except ProbeError:
        return REFUSED
    used = [name for name in sorted(classes.folders) if name != "__MACOSX"]
    for index in range(len(images)):
        name, label = images.item_name(index).partition("/")[0], images.label(index)
        rules = {
            used.index(name) if len(used) == count else None,
            known.index(name) if name in known else None,
        }
        if name.isdigit():
            rules |= {int(name), int(name) - 1 if images.cautions else None}
        if label not in rules - {None}:
            return _wrong("the labels", (classes, name, label))
        if name in known and label != known.index(name):
            return _wrong("the labels of known names", (classes, name, label))
    return TAKEN


# ------------------------------------------------------------------------------------------------ damaged files


def damages() -> st.SearchStrategy[tuple[str, list[tuple[int, int]], int]]:
    """Return the strategy of damages: a kind of file, bytes to change, and where to cut it."""
    kind = st.sampled_from(["pth", "safetensors", "npz", "npy", "png", "json", "csv", "map"])
    return st.tuples(
        kind, st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=5), st.integers(0, 4000)
    )


def try_damage(damage: Any, folder: Path) -> str:
    """Read a damaged file; whatever it contains, it is read or refused."""
    kind, changes, cut = damage
    path = folder / f"file.{kind}"
    _write(kind, path)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(bytes(content[: max(1, len(content) - cut % len(content))] if cut % 3 == 0 else content))
    try:
        if kind in ("pth", "safetensors"):
            read_checkpoint(path)
        elif kind == "png":
            images = load_images(path)
            images.items[0].read()
        elif kind in ("npz", "npy"):
            load_images(path)
        else:
            from probe.data.class_map import read_class_map
            from probe.data.labels_csv import LabelsCsv
            from probe.models.labels import read_labels

            {"json": read_labels, "csv": lambda p: LabelsCsv(p).read(), "map": read_class_map}[kind](path)
    except ProbeError:
        return REFUSED
    return TAKEN


def _write(kind: str, path: Path) -> None:
    if kind == "pth":
        torch.save({"state_dict": nn.Linear(3, 2).state_dict(), "args": argparse.Namespace(lr=1)}, path)
    elif kind == "safetensors":
        save_file(nn.Linear(3, 2).state_dict(), path)
    elif kind == "npz":
        np.savez(path, images=np.zeros((2, 4, 4), np.float32), labels=np.array([0, 1]))
    elif kind == "npy":
        np.save(path, np.zeros((2, 4, 4), np.float32))
    elif kind == "png":
        Image.new("RGB", (9, 7), (10, 20, 30)).save(path)
    elif kind == "json":
        path.write_text(json.dumps({str(number): f"class {number}" for number in range(5)}))
    else:
        buffer = io.StringIO()
        csv.writer(buffer).writerows([["file", "label"], ["a.png", "cat"], ["b.png", "dog"]])
        path.write_text(buffer.getvalue())


# ------------------------------------------------------------------------------------------------ command lines

VALUES = [
    "", "0", "-1", "1", "2", "0.03", "1e9", "nan", "inf", "abc", "8/255", "1/0", "0:1:3", "none", "auto", "conv", "pgd", "apgd-ce",
    "pgd?steps=2", "pgd?steps=x", "digits", "nix", "a,b", ",", "weights", "worst", "L2", "L7", "3,3", "cat", "[]", "{}", "../x", "é",
]  # fmt: skip
FREE = [
    "--eps", "--norm", "--attack", "--target", "--views", "--checks", "--images", "--layers", "--channels", "--img-size", "--mean",
    "--std", "--resize", "--crop", "--interpolation", "--labels", "--class-map", "--labels-csv", "--output", "-n", "-b", "--seed",
    "--steps", "--restarts", "--remove", "--sites", "--max-sites", "--draws", "--mode", "--fail-under", "--weights", "--device",
    "--swap", "--figures", "--format",
]  # fmt: skip
COMMANDS = (
    "filters",
    "adversarial",
    "ablate",
    "anatomy",
    "structures",
    "models",
    "attacks",
    "doctor",
    "compare",
    "schema",
)
FAST = {
    "filters": ["--views", "weights", "-n", "4"],
    "adversarial": ["--views", "attacks", "--no-checks", "-n", "4", "--attack", "fgsm"],
    "ablate": ["--mode", "lesion", "-n", "4", "--remove", "relu", "--max-sites", "2", "--draws", "1"],
    "doctor": ["--steps", "2", "--no-sweep", "-n", "16"],
}
_SLOW = {"--steps", "--restarts", "--device"}


def command_lines() -> st.SearchStrategy[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return the strategy of command lines: a command and options with values, sensible or not."""
    pairs = st.lists(st.tuples(st.sampled_from(FREE), st.sampled_from(VALUES)), max_size=3).map(tuple)
    return st.tuples(st.sampled_from(COMMANDS), pairs)


def try_command_line(line: Any, folder: Path) -> str:
    """Run a command line; it must end with a documented exit code and never with a bug."""
    command, pairs = line
    words = [command]
    if command in FAST or command in ("anatomy", "structures"):
        words += ["-m", "zoo:lenet", "--weights", "none", "--offline", "-q"]
    if command in FAST:
        words += ["-d", "digits", "--out", str(folder / "out"), *FAST[command]]
    words += [
        word for name, value in pairs for word in (name, value) if not (name in _SLOW and value == "1e9")
    ]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(folder):
        code = cli.run(words)
    said = err.getvalue()
    if code not in (0, 1, 2, 3, 4, 130) or "bug in probe" in said or "Traceback" in said or "defect" in said:
        raise AssertionError(f"probe {' '.join(map(repr, words))} → {code}: {said[-400:]}")
    return TAKEN if code in (0, 1, 4) else REFUSED
