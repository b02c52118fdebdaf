"""A dask cluster whose workers run jobs: a scheduler somewhere, or one that is started on this machine."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

from probe import __version__
from probe.core.errors import CannotRunError, UsageError

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_SECONDS = 8
LOCAL = "local:"
"""How a cluster of this machine begins, such as ``local:4``."""


@dataclass(frozen=True)
class Workers:
    """An executor, how many jobs it runs at once, and what sends bytes to each worker once, for all jobs there."""

    executor: Executor
    room: Callable[[], int]
    once: Callable[[bytes], Any] = lambda data: data


@contextmanager
def opened(address: str) -> Iterator[tuple[str, str]]:
    """Yield the address of a cluster's scheduler and that of its dashboard ("" where it has none).

    ``tcp://host:port``, the path of a scheduler file (``….json``, as dask-jobqueue and dask-mpi write it), or ``local:4``, a
    cluster of this machine that is started here and ended with the block. Raises CannotRunError when it cannot be reached,
    UsageError when dask is not installed.
    """
    try:
        import distributed
    except ImportError as error:
        raise UsageError("A cluster needs dask: pip install 'cnn-probe[cluster]'.") from error
    with ExitStack() as stack:
        if address.startswith(LOCAL):
            count = address.removeprefix(LOCAL)
            if not count.isdecimal() or int(count) < 1:
                raise UsageError(f"A cluster of this machine is local:N, such as local:4; got '{address}'.")
            started = distributed.LocalCluster(
                n_workers=int(count), threads_per_worker=1, dashboard_address=":0", silence_logs=50
            )
            address = stack.enter_context(started).scheduler_address
        with _connected(address) as client:
            dashboard = str(client.dashboard_link or "")
            address = str(client.scheduler_info(n_workers=0)["address"])
            _check_versions(client)
        yield address, dashboard


def _versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    # The package's own number, for a checkout that is not installed has no metadata.
    return {
        "Python": python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "probe": __version__,
    }


def _check_versions(client: Client) -> None:
    """Raise CannotRunError where a worker has no probe, or another version of it, of torch, numpy or Python."""
    try:
        workers: dict[str, dict[str, str]] = client.run(_versions)
    except Exception as error:
        raise CannotRunError(f"The cluster's workers cannot run probe: {error}") from error
    mine = _versions()
    for name, theirs in workers.items():
        for package, own in mine.items():
            if theirs[package] != own:
                raise CannotRunError(
                    f"The worker {name} has {package} {theirs[package]}, and this process {own}: results could differ. "
                    "Give both the same versions."
                )


def lacking(address: str, files: Sequence[Path]) -> tuple[dict[str, str], int]:
    """Return (worker → the first of ``files`` that it does not see as they are here, the number of workers).

    Files are the same where their first MiB and their size are. Raises CannotRunError when the cluster cannot be asked.
    """
    marks = {str(file): _mark(file) for file in files}
    with _connected(address) as client:
        try:
            answers: dict[str, str | None] = client.run(_first_other, marks)
        except Exception as error:
            raise CannotRunError(f"The cluster's workers cannot look for the images: {error}") from error
    return {worker: file for worker, file in answers.items() if file is not None}, len(answers)


_MARKED = 2**20


def _mark(file: str | Path) -> tuple[int, int] | None:
    """Return (size, checksum of the first MiB), None for a file that cannot be read."""
    try:
        with open(file, "rb") as opened:
            return Path(file).stat().st_size, zlib.crc32(opened.read(_MARKED))
    except OSError:
        return None


def _first_other(marks: Mapping[str, tuple[int, int] | None]) -> str | None:
    return next((file for file, mark in marks.items() if _mark(file) != mark), None)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    import distributed

    if address.endswith(".json"):
        address = _named_in(Path(address).expanduser())
    try:
        client = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CannotRunError(
            f"Could not connect to a dask scheduler at {address}: {error}. Start one there (dask scheduler), or use --jobs."
        ) from error
    with closing(client):
        yield client


def _named_in(file: Path) -> str:
    """Return the address in a scheduler file; dask itself would wait for ever for one that is not there."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except OSError as error:
        raise CannotRunError(f"The scheduler file {file} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CannotRunError(f"{file} is no scheduler file: it has no address.") from error


@contextmanager
def cluster_workers(address: str) -> Iterator[Workers]:
    """Connect to a cluster; what its workers still run is given up at the end."""
    with opened(address) as (scheduler, _), _connected(scheduler) as client:

        def sent_once(data: bytes) -> Any:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                # A task and no scattered data: it is made again where the worker that has it dies.
                return client.submit(_same, data, pure=False)

        yield Workers(client.get_executor(pure=False), lambda: _threads(client), sent_once)


def _same(data: bytes) -> bytes:
    return data


def _threads(client: Client) -> int:
    """Return how many jobs the cluster runs at once, 1 while it has no worker yet."""
    try:
        return max(1, int(sum(client.nthreads().values())))
    except OSError as error:
        raise CannotRunError(f"The connection to the cluster is lost: {error}") from error
