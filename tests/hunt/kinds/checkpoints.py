"""Checkpoints in every form that people save: the logits are those of the network that was saved."""

from __future__ import annotations

import argparse
import functools
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file

from hunt.kinds.common import REFUSED, TAKEN, imported, wrong
from hunt.kinds.networks import Net
from probe.core.errors import ProbeError
from probe.models.load import load_model

NAME = "checkpoints"

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


def strategy() -> st.SearchStrategy[Saved]:
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


def attempt(saved: Any, folder: Path) -> str:
    """Load a checkpoint into the network that it was made from, and compare the logits."""
    (folder / "net.py").write_text(CHECKED.source)
    own = imported(folder / "net.py").net().eval()
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
        return wrong("the logits", saved)
    return TAKEN
