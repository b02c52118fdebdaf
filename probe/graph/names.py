"""Layer names that users type."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import nn

from probe.core.errors import UsageError


def layer_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of all submodules; a module with two names has both."""
    return tuple(name for name, _ in module.named_modules(remove_duplicate=False) if name)


def check_layer(names: Sequence[str], layer: str) -> None:
    """Raise UsageError, with names that are close, unless ``layer`` is among ``names``."""
    if layer in names:
        return
    near = difflib.get_close_matches(layer, names, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Its first layers are {', '.join(names[:5])}."
    raise UsageError(f"The network has no layer '{layer}'. {hint if names else ''}".strip())
