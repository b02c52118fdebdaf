"""Running code that is not probe's without keeping what it changes in the process: folder, threads, types, random state."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def contained() -> Iterator[None]:
    """Undo, after the block, what its code changed for the whole process.

    That is the working folder, the state of the global random generators, and PyTorch's default type and device, number
    of threads, gradient mode and choice of deterministic algorithms.
    """
    import numpy as np
    import torch

    folder = _working_folder()
    randoms = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # A CUDA context is not made only to look at it.
    ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if ready else None
    kind, device, threads = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()
    gradients = torch.is_grad_enabled()
    strict = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fastest = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        if folder and _working_folder() != folder:
            with suppress(OSError):
                os.chdir(folder)
        random.setstate(randoms[0])
        np.random.set_state(randoms[1])
        torch.set_rng_state(randoms[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        torch.set_default_dtype(kind)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        torch.backends.cudnn.benchmark = fastest


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""
