"""Whole studies of generated networks on generated data: the accuracy that a report states is the one that plain PyTorch counts."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from hunt.kinds.common import REFUSED, TAKEN, imported, wrong
from probe.cli import main as cli

NAME = "studies"
N, CLASSES = 9, 3
STUDIES = {
    "filters": (["--views", "weights,activations"], "accuracy"),
    "adversarial": (
        ["--attack", "fgsm,square?queries=5", "--views", "attacks", "--no-checks"],
        "clean_accuracy",
    ),
    "ablate": (
        ["--mode", "lesion", "--remove", "relu", "--max-sites", "2", "--draws", "1"],
        "intact_accuracy",
    ),
}
STEMS = {
    "module": "self.act(self.norm(self.conv(x)))",
    "function": "torch.relu(self.norm(self.conv(x)))",
    "method": "self.norm(self.conv(x)).relu_()",
    "clamp": "self.norm(self.conv(x)).clamp(min=0)",
}
BODIES = {
    "plain": "self.act(self.body(f))",
    "residual": "self.act(f + self.body(f))",
    "in place": "self.act(f.add_(self.body(f)))",
    "dense": "torch.cat([f, self.body(f)], 1)[:, :4]",
    "branch": "self.act(self.body(f)) if f.shape[2] > 3 else f",
    "data": "self.act(self.body(f)) if f.sum() > 0 else self.act(-f)",
    "gate": "f * torch.sigmoid(self.body(f).mean((2, 3), keepdim=True))",
    "twice": "self.act(self.body(self.act(self.body(f))))",
    "checkpointed": "torch.utils.checkpoint.checkpoint(lambda t: self.act(self.body(t)), f, use_reentrant=False)",
    "looped": "[f := self.act(self.body(f)) for _ in range(3)][-1]",
}
HEADS = {
    "mean": "self.fc(f.mean((2, 3)))",
    "pool": "self.fc(F.adaptive_avg_pool2d(f, 1).flatten(1))",
    "convolution": "self.last(f).amax((2, 3))",
    "log-softmax": "F.log_softmax(self.fc(f.mean((2, 3))), 1)",
    "softmax": "F.softmax(self.fc(f.mean((2, 3))), 1)",
    "auxiliary": "(self.fc(f.mean((2, 3))), self.last(f))",
}


@dataclass(frozen=True)
class Case:
    """A network, its data and a study."""

    channels: int
    side: int
    stem: str
    body: str
    head: str
    wrapped: str
    mean: float
    std: float
    data: str
    study: str

    @property
    def source(self) -> str:
        """The text of net.py."""
        return f"""
import torch, torch.utils.checkpoint
import torch.nn.functional as F
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d({self.channels}, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.body = {self.wrapped}
        self.fc, self.last = nn.Linear(4, {CLASSES}), nn.Conv2d(4, {CLASSES}, 1)
    def forward(self, x):
        f = {STEMS[self.stem]}
        f = {BODIES[self.body]}
        return {HEADS[self.head]}
def net():
    torch.manual_seed(5)
    net = Net()
    for value in net.parameters():
        value.data.mul_(3)
    return net
"""


def strategy() -> st.SearchStrategy[Case]:
    """Return the strategy of networks, data and studies."""
    conv = "nn.Conv2d(4, 4, 3, padding=1)"
    wrapped = [
        conv,
        f"torch.nn.utils.parametrizations.weight_norm({conv})",
        f"torch.nn.utils.parametrizations.spectral_norm({conv})",
        f"nn.Sequential({conv}, nn.GroupNorm(2, 4), nn.Dropout2d(0.5))",
        "nn.Conv2d(4, 4, 3, padding=1, groups=2)",
        "nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.LocalResponseNorm(3))",
        f"nn.ModuleList([{conv}])[0]",
    ]
    return st.builds(
        Case,
        channels=st.sampled_from([1, 3, 5]),
        side=st.sampled_from([6, 8, 13]),
        stem=st.sampled_from(sorted(STEMS)),
        body=st.sampled_from(sorted(BODIES)),
        head=st.sampled_from(sorted(HEADS)),
        wrapped=st.sampled_from(wrapped),
        mean=st.sampled_from([0.0, 0.5]),
        std=st.sampled_from([1.0, 0.25]),
        data=st.sampled_from(["folder", "npz", "function", "csv"]),
        study=st.sampled_from(sorted(STUDIES)),
    )


def attempt(case: Any, folder: Path) -> str:
    """Run the study on the command line and compare n and accuracy; pictures hold one or three channels only."""
    (folder / "net.py").write_text(case.source)
    random = np.random.default_rng(7)
    pixels = random.integers(0, 256, (N, case.channels, case.side, case.side)).astype(np.uint8)
    labels = random.integers(0, CLASSES, N)
    labels[:CLASSES] = range(CLASSES)
    pictures = case.data in ("folder", "csv") and case.channels in (1, 3)
    data = _pictures(case, pixels, labels, folder) if pictures else _arrays(case, pixels, labels, folder)
    options, key = STUDIES[case.study]
    words = [
        case.study,
        "-m",
        f"{folder}/net.py:net",
        "--img-size",
        str(case.side),
        "--mean",
        str(case.mean),
        "--std",
        str(case.std),
    ]
    words += ["--offline", "--device", "cpu", "-q", *data, *options, "--out", str(folder / "report")]
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = cli.run(words)
    if code not in (0, 2, 3, 4) or "bug in probe" in said.getvalue() or "Traceback" in said.getvalue():
        raise AssertionError(f"{code}: {said.getvalue()[-600:]}")
    if code in (2, 3):
        return f"{REFUSED}: {said.getvalue()[-160:]}" if case.body != "data" else REFUSED
    report = json.loads((folder / "report" / "results.json").read_text())
    results = {result["name"]: result for result in report["results"]}
    net = imported(folder / "net.py").net().eval()
    with torch.no_grad():
        output = net((torch.from_numpy(pixels) / 255 - case.mean) / case.std)
    logits = output[0] if isinstance(output, tuple) else output
    expected = (logits.argmax(1).numpy() == labels).mean()
    if report["data"]["n"] != N or abs(results[key]["value"] - expected) > 1e-9:
        return wrong("the accuracies", (case, results[key]["value"], expected))
    return TAKEN if code == 0 else "taken with a part that failed: " + said.getvalue()[-160:]


def _pictures(case: Any, pixels: np.ndarray[Any, Any], labels: Any, folder: Path) -> list[str]:
    (folder / "data").mkdir()
    rows = ["file,label"]
    for index, image in enumerate(pixels):
        picture = Image.fromarray(image[0] if case.channels == 1 else image.transpose(1, 2, 0))
        place = Path(f"class {labels[index]}" if case.data == "folder" else "all") / f"{index}.png"
        (folder / "data" / place).parent.mkdir(exist_ok=True)
        picture.save(folder / "data" / place)
        rows.append(f"{place},{labels[index]}")
    if case.data == "folder":
        return ["-d", str(folder / "data")]
    (folder / "labels.csv").write_text("\n".join(rows))
    return ["-d", str(folder / "data"), "--labels-csv", str(folder / "labels.csv")]


def _arrays(case: Any, pixels: np.ndarray[Any, Any], labels: Any, folder: Path) -> list[str]:
    np.savez(folder / "x.npz", images=pixels, labels=labels)
    if case.data != "function":
        return ["-d", str(folder / "x.npz")]
    (folder / "my_data.py").write_text(
        f"import numpy\ndef data():\n    file = numpy.load({str(folder / 'x.npz')!r})\n    return file['images'], file['labels']\n"
    )
    return ["-d", f"{folder}/my_data.py:data"]
