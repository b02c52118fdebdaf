"""Networks of any output, wrapper and signature: their logits are those of the network itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from hunt.kinds.common import REFUSED, TAKEN, imported, wrong
from probe.core.errors import ProbeError
from probe.models.load import load_model

NAME = "networks"

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


def strategy() -> st.SearchStrategy[Net]:
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


def attempt(net: Any, folder: Path) -> str:
    """Load a network by its file, and compare its logits with its own."""
    (folder / "net.py").write_text(net.source)
    try:
        model = load_model(f"{folder}/net.py:net", img_size=net.side, offline=True, device="cpu")
    except ProbeError:
        return REFUSED
    if model.input.size[0] != net.channels:
        return REFUSED if net.wrapper == "scripted" else wrong("the number of channels", model.input.size)
    pixels = torch.rand(3, *model.input.size, generator=torch.Generator().manual_seed(1))
    own = imported(folder / "net.py").net()
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
        return wrong("the logits", net)
    return TAKEN
