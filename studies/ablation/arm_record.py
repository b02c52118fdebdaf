"""A finished arm as named arrays, for the journal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.graph.anatomy import Anatomy
from probe.training.fit import Epoch
from probe.training.watch import Fault
from studies.ablation.arms import Arm, Trained

_ARRAYS = ("right", "confidence", "robust", "norms")
_DROPOUT = "dropout."


def to_arrays(trained: Trained) -> dict[str, NDArray[Any]]:
    """Return a finished arm as arrays; everything but the arrays is JSON in one of them."""
    arrays = {name: getattr(trained, name) for name in _ARRAYS}
    arrays |= {_DROPOUT + name: array for name, array in trained.dropout.items()}
    plain = dataclasses.asdict(dataclasses.replace(trained, dropout={}))
    rest = {key: value for key, value in plain.items() if key not in (*_ARRAYS, "dropout")}
    arrays["rest"] = np.frombuffer(json.dumps(rest).encode(), dtype=np.uint8)
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Trained:
    """Return the arm that ``to_arrays`` wrote."""
    rest: dict[str, Any] = json.loads(bytes(arrays["rest"]).decode())
    arm, whole, fault = rest.pop("arm"), rest.pop("anatomy"), rest.pop("fault")
    arm = Arm(tuple(arm["cuts"]), arm["seed"], arm["depth"], _tuple(arm["sites"]), arm["match"])
    field = whole.pop("field")
    if fault is not None:
        fault["last_norms"] = tuple((name, norm) for name, norm in fault["last_norms"])
    return Trained(
        arm=arm,
        anatomy=Anatomy(**whole, field=None if field is None else (field[0], field[1])),
        history=tuple(Epoch(**epoch) for epoch in rest.pop("history")),
        fault=None if fault is None else Fault(**fault),
        **{key: _tuple(value) if isinstance(value, list) else value for key, value in rest.items()},
        **dict[str, Any]((name, arrays[name]) for name in _ARRAYS),
        dropout={
            name.removeprefix(_DROPOUT): array for name, array in arrays.items() if name.startswith(_DROPOUT)
        },
    )


def _tuple(value: Any) -> Any:
    return None if value is None else tuple(value)
