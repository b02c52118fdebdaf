"""Fashion-MNIST and CIFAR-10: found where they may lie, read with checks, downloaded whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import io
import os
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from probe.core import paths as places
from probe.core.errors import CannotRunError
from probe.data import fetch as fetching
from probe.data.fetch import Remote, fetch
from probe.data.idx import read_idx
from probe.data.images import InputSpec
from probe.data.load import load_images
from probe.data.sources import cifar10, fashion_mnist

RAW = Path("FashionMNIST", "raw")
BATCHES = "cifar-10-batches-py"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has no data set anywhere but in the folder that the environment names."""
    empty = tmp_path / "home"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("HOME", str(empty))
    monkeypatch.setenv("XDG_CACHE_HOME", str(empty / "cache"))
    monkeypatch.delenv(places.CACHE, raising=False)
    monkeypatch.setenv(places.DATA_DIR, str(tmp_path / "named"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist, "MIRROR", "http://127.0.0.1:9/")
    monkeypatch.setattr(cifar10, "ARCHIVE", Remote("http://127.0.0.1:9/cifar-10-python.tar.gz", "0", 1 << 20))
    return tmp_path / "named"


def fashion(folder: Path, rng: np.random.Generator, end: str = ".gz", count: int = 12, prefix: str = "t10k"):
    pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((f"{prefix}-images-idx3-ubyte", pixels), (f"{prefix}-labels-idx1-ubyte", labels)):
        content = idx(array)
        (folder / (name + end)).write_bytes(gzip.compress(content) if end else content)
    return pixels, labels


def batch_bytes(pixels: np.ndarray, labels: list[int], changes: dict[str, object] | None = None) -> bytes:
    """One CIFAR-10 part: pixels (N, 32, 32, 3) stored as rows of red, green and blue planes."""
    rows = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)
    entry = {"batch_label": "x", "labels": labels, "data": rows, "filenames": ["a"], **(changes or {})}
    return pickle.dumps(entry, protocol=2)


def cifar(folder: Path, rng: np.random.Generator, names: tuple[str, ...] = ("test_batch",), count: int = 7):
    pixels = rng.integers(0, 256, (len(names), count, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, (len(names), count))
    (folder / BATCHES).mkdir(parents=True, exist_ok=True)
    for part, name in enumerate(names):
        (folder / BATCHES / name).write_bytes(batch_bytes(pixels[part], labels[part].tolist()))
    return pixels.reshape(-1, 32, 32, 3), labels.reshape(-1)


def archive_of(folder: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w:gz") as tar:
        tar.add(folder / BATCHES, BATCHES)
    return target


# Fashion-MNIST ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(("name", "prefix"), [("fashion-mnist", "t10k"), ("fashion-mnist-train", "train")])
def test_fashion_mnist_is_read_exactly(end, name, prefix, root, rng):
    pixels, labels = fashion(root / RAW, rng, end, prefix=prefix)
    images = load_images(name, offline=True)
    batch = next(images.batches(InputSpec((1, 28, 28)), 99))
    assert np.array_equal(batch.images[:, 0].numpy(), pixels.astype(np.float32) / np.float32(255))
    assert np.array_equal(batch.labels.numpy(), labels)
    assert (images.domain, images.framed, images.num_classes) == ("fashion-mnist", True, 10)
    assert images.class_names[9] == "Ankle boot"


def test_fashion_mnist_equals_torchvisions_reading(root, rng):
    from torchvision.datasets import FashionMNIST

    for prefix in ("t10k", "train"):
        fashion(root / RAW, rng, "", prefix=prefix)
    peer = FashionMNIST(str(root), train=False)
    images = load_images("fashion-mnist")
    assert tuple(peer.classes) == images.class_names
    for i, item in enumerate(images.items):
        assert np.array_equal(np.asarray(item.read()), np.asarray(peer[i][0]))
        assert item.label == peer[i][1]


@pytest.mark.parametrize("place", ["debian", "data", "~/data", "cache", "named cache", "named"])
def test_fashion_mnist_is_found_in_every_documented_place(place, root, rng, tmp_path, monkeypatch):
    folder = {
        "debian": tmp_path / "debian",
        "data": tmp_path / "home/data" / RAW,
        "~/data": tmp_path / "home/data" / RAW,
        "cache": tmp_path / "home/cache/cnn-probe/data" / RAW,
        "named cache": tmp_path / "kept/data" / RAW,
        "named": root / RAW,
    }[place]
    if place == "~/data":
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
    if place == "named cache":
        monkeypatch.setenv(places.CACHE, str(tmp_path / "kept"))
    if place != "named":
        monkeypatch.delenv(places.DATA_DIR)
    fashion(folder, rng)
    assert len(load_images("fashion-mnist", offline=True)) == 12


def test_the_named_folder_comes_first(root, rng, tmp_path):
    fashion(tmp_path / "debian", rng, count=30)
    fashion(root / RAW, rng, count=11)
    assert len(load_images("fashion-mnist")) == 11


def test_half_a_data_set_is_not_taken(root, rng):
    fashion(root / RAW, rng)
    (root / RAW / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(CannotRunError, match="not on this machine"):
        load_images("fashion-mnist", offline=True)


PIXELS, LABELS = np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (idx(PIXELS)[:-1], idx(LABELS), "its length is not"),
        (idx(PIXELS) + b"\0", idx(LABELS), "its length is not"),
        (idx(PIXELS)[:9], idx(LABELS), "not an IDX file of bytes in 3 dimensions"),
        (b"", idx(LABELS), "not an IDX file"),
        (b"\0\0\x0d\x03" + idx(PIXELS)[4:], idx(LABELS), "not an IDX file"),
        (idx(LABELS), idx(LABELS), "not an IDX file of bytes in 3"),
        (idx(PIXELS), idx(PIXELS), "not an IDX file of bytes in 1"),
        (idx(PIXELS), idx(LABELS[:3]), "4, 28, 28. pixels and 3 labels"),
        (idx(PIXELS[:, :27]), idx(LABELS), "4, 27, 28. pixels"),
        (idx(PIXELS[:0]), idx(LABELS[:0]), "0, 28, 28"),
        (idx(PIXELS), idx(LABELS + 10), "label 10"),
        (struct.pack(">IIII", 0x803, 2**32 - 1, 28, 28), idx(LABELS), "claims"),
    ],
)
def test_damaged_fashion_mnist_is_refused_with_the_way_out(images, labels, why, root):
    (root / RAW).mkdir(parents=True)
    (root / RAW / "t10k-images-idx3-ubyte").write_bytes(images)
    (root / RAW / "t10k-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(CannotRunError, match=f"is not a file of Fashion-MNIST .*{why}.*Remove it"):
        load_images("fashion-mnist", offline=True)


def test_idx_files_in_damaged_compression_are_refused(tmp_path):
    whole = gzip.compress(idx(PIXELS))
    for content in (whole[:20], b"no gzip", whole[:-8] + b"\0" * 8, whole[:15] + b"\xff\xff" + whole[17:]):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged compression|not an IDX|its length"):
            read_idx(tmp_path / "a.gz", 3, 10**6)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    bomb = struct.pack(">II", 0x801, 10) + bytes(200 << 20)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bomb, 1))
    del bomb
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(ValueError, match="its length is not"):
        read_idx(tmp_path / "a.gz", 1, 1000)
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()


# CIFAR-10 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "files"),
    [("cifar10", ("test_batch",)), ("cifar10-train", tuple(f"data_batch_{i}" for i in range(1, 6)))],
)
def test_cifar10_is_read_exactly(packed, name, files, root, rng, tmp_path):
    where = tmp_path / "made" if packed else root
    pixels, labels = cifar(where, rng, files)
    if packed:
        archive_of(where, root / "cifar-10-python.tar.gz")
    images = load_images(name, offline=True)
    batch = next(images.batches(InputSpec((3, 32, 32)), 99))
    assert np.array_equal(
        batch.images.numpy(), pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    )
    assert np.array_equal(batch.labels.numpy(), labels)
    assert (images.domain, images.framed, images.num_classes) == ("cifar10", True, 10)
    assert not (root / BATCHES).exists() or not packed


def test_cifar10_as_python_2_pickled_it(root):
    """Opcodes as protocol 2 of Python 2 wrote them: byte strings, and NumPy's module names of then."""
    row = bytes(range(256)) * 12
    content = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<I", len(row)) + row + b"tb"
        b"U\x06labels]K\x06aU\x0bbatch_labelU\x03yesu."
    )
    entry = pickle.loads(content, encoding="latin1")
    assert entry["data"].shape == (1, 3072)
    (root / BATCHES).mkdir(parents=True)
    (root / BATCHES / "test_batch").write_bytes(content)
    images = load_images("cifar10", offline=True)
    assert images.label(0) == 6
    expected = np.frombuffer(row, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(images.items[0].read()), expected)


def test_cifar10_class_names_are_torchvisions_order(root, rng):
    # Its publisher's order, which is alphabetical.
    cifar(root, rng)
    names = load_images("cifar10").class_names
    assert len(names) == 10
    assert list(names) == sorted(names)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def through_numpy(marker: Path) -> object:
    return partial(os.mkdir, str(marker))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["alone", "data", "labels", "extra", "partial"])
def test_a_hostile_pickle_runs_nothing(packed, place, root, rng, tmp_path):
    marker = tmp_path / "marker"
    evil = through_numpy(marker) if place == "partial" else Hostile(marker)
    pixels = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    content = (
        pickle.dumps(evil, protocol=2)
        if place == "alone"
        else batch_bytes(pixels, [1, 2], {"extra" if place == "partial" else place: evil})
    )
    where = tmp_path / "made" if packed else root
    (where / BATCHES).mkdir(parents=True)
    (where / BATCHES / "test_batch").write_bytes(content)
    if packed:
        archive_of(where, root / "cifar-10-python.tar.gz")
    with pytest.raises(
        CannotRunError, match=r"is not CIFAR-10 as published \(test_batch: it names .*\)\. Remove it"
    ):
        load_images("cifar10", offline=True)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval", "builtins exec", "builtins getattr", "posix system", "os system", "numpy load",
        "numpy.core.multiarray scalar", "numpy core.multiarray._reconstruct", "numpy ndarray.tofile",
        "numpy.f2py.crackfortran getlincoef", "_codecs decode", "copyreg _reconstructor",
    ],
)  # fmt: skip
def test_every_other_callable_is_refused(name):
    from probe.data.plain_pickle import load_plain

    module, _, attribute = name.partition(" ")
    for protocol, content in (
        (2, f"c{module}\n{attribute}\n(tR.".encode()),
        (
            4,
            b"\x80\x04\x8c" + bytes([len(module)]) + module.encode()
            + b"\x8c" + bytes([len(attribute)]) + attribute.encode() + b"\x93)R.",
        ),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="it names"):
            load_plain(io.BytesIO(content))
        assert protocol


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "damaged content"),
        (b"\x80\x02}.", "no 'data' array"),
        (b"\x80\x02].", "not a dictionary"),
        (b"garbage", "damaged content"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "damaged content"),
        (b"cnumpy\ndtype\n(S'u1'\ntRS'x'\nb.", "not a dictionary"),
    ],
)
def test_damaged_pickles_are_refused(content, why, root):
    (root / BATCHES).mkdir(parents=True)
    (root / BATCHES / "test_batch").write_bytes(content)
    with pytest.raises(CannotRunError, match=f"test_batch: {why}"):
        load_images("cifar10", offline=True)


ROWS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data": ROWS[:1]}, "pixels and 2 labels"),
        ({"data": ROWS[:, :3000]}, "pixels and 2 labels"),
        ({"data": ROWS.astype(np.float32)}, "something other than unsigned bytes"),
        ({"data": np.array([None, 1])}, "something other than unsigned bytes|damaged"),
        ({"data": [1, 2]}, "no 'data' array"),
        ({"labels": [0, 10]}, "labels outside"),
        ({"labels": [0, -1]}, "labels outside"),
        ({"labels": [0, 1.5]}, "labels outside"),
        ({"labels": [0, True]}, "labels outside"),
        ({"labels": (0, 1)}, "no 'data' array or no 'labels' list"),
        ({"labels": []}, "pixels and 0 labels"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, why, root):
    (root / BATCHES).mkdir(parents=True)
    content = batch_bytes(np.zeros((2, 32, 32, 3), np.uint8), [0, 1], changes)
    (root / BATCHES / "test_batch").write_bytes(content)
    with pytest.raises(CannotRunError, match=why):
        load_images("cifar10", offline=True)


def test_arrays_in_fortran_order_are_put_right():
    from probe.data.plain_pickle import load_plain

    array = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    found = load_plain(io.BytesIO(pickle.dumps({"a": array}, protocol=2)))["a"].values
    assert np.array_equal(found, array)


def test_an_array_that_lies_about_its_shape_is_refused():
    from probe.data.plain_pickle import load_plain

    content = pickle.dumps(np.zeros(7, np.uint8), protocol=2)
    assert content.count(b"K\x07\x85") == 1
    for shape in (b"K\x08\x85", b"J\xff\xff\xff\xff\x85"):
        with pytest.raises(ValueError, match="does not fit its shape"):
            load_plain(io.BytesIO(content.replace(b"K\x07\x85", shape)))


def test_very_long_pickles_are_refused(monkeypatch):
    from probe.data import plain_pickle

    monkeypatch.setattr(plain_pickle, "MAX_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="longer than 1 MB"):
        plain_pickle.load_plain(io.BytesIO(b"x" * ((1 << 20) + 1)))


@pytest.mark.parametrize("kind", ["no tar", "cut", "without the part", "link", "folder"])
def test_damaged_archives_are_refused(kind, root, rng, tmp_path):
    cifar(tmp_path / "made", rng)
    target = archive_of(tmp_path / "made", root / "cifar-10-python.tar.gz")
    if kind == "no tar":
        target.write_bytes(b"hello")
    elif kind == "cut":
        target.write_bytes(target.read_bytes()[:5000])
    else:
        with tarfile.open(target, "w:gz") as tar:
            info = tarfile.TarInfo(f"{BATCHES}/{'other' if kind == 'without the part' else 'test_batch'}")
            info.type = {"link": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE}.get(kind, tarfile.REGTYPE)
            info.linkname = "/etc/passwd"
            tar.addfile(info)
    with pytest.raises(CannotRunError, match="is not CIFAR-10 as published"):
        load_images("cifar10", offline=True)


# Downloads ----------------------------------------------------------------------------------------------


@contextmanager
def server(files: dict[str, bytes], fault: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve files on this machine: whole, ``cut`` to their first half, or falling ``silent`` after it."""
    asked: list[str] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            asked.append(name)
            if name not in files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[name])))
            self.end_headers()
            sent = len(files[name]) // 2 if fault in ("cut", "silent") else len(files[name])
            self.wfile.write(files[name][:sent])
            if fault == "silent":
                over.wait(30)

        def log_message(self, *_args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # closing waits for them

    with Server(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}/", asked
        finally:
            over.set()
            http.shutdown()
            thread.join()


class Told:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, float | None, list[float]]] = []

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Callable[[float], None]]:
        steps: list[float] = []
        self.tasks.append((label, total, steps))
        yield steps.append

    def say(self, text: str) -> None:
        pass


def remote(base: str, content: bytes, name: str = "file.bin", limit: int = 1 << 20) -> Remote:
    return Remote(base + name, hashlib.md5(content, usedforsecurity=False).hexdigest(), limit)


def test_a_download_is_checked_and_renamed(tmp_path):
    content, progress = os.urandom(200_000), Told()
    target = tmp_path / "new" / "file.bin"
    with server({"file.bin": content}) as (base, _):
        fetch(remote(base, content), target, progress)
    assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]
    ((label, total, steps),) = progress.tasks
    assert (label, total, sum(steps)) == ("downloading file.bin", 200_000, 200_000)


FAULTS = {
    "md5": "its md5 is wrong",
    "too long": "longer than 99,999 bytes",
    "missing": "cannot be downloaded: HTTP Error 404",
    "refused": "cannot be downloaded: .*refused",
    "cut": "cannot be downloaded: it ended after 50,000 of 100,000 bytes",
    "silent": "cannot be downloaded: timed out",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_download_leaves_nothing(fault, tmp_path, monkeypatch):
    content = os.urandom(100_000)
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.5)
    folder = tmp_path / "new"
    with server({"file.bin": content}, fault) as (base, _):
        wanted = remote(base, content)
        if fault == "md5":
            wanted = remote(base, content + b"x")
        elif fault == "too long":
            wanted = remote(base, content, limit=99_999)
        elif fault == "missing":
            wanted = remote(base, content, name="other.bin")
        elif fault == "refused":
            wanted = remote("http://127.0.0.1:9/", content)
        with pytest.raises(CannotRunError, match=FAULTS[fault]) as caught:
            fetch(wanted, folder / "file.bin", Told())
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotRunError, match=r"Cannot write to '.*file/sub'"):
        fetch(Remote("http://127.0.0.1:9/a", "0", 1), tmp_path / "file/sub/a", Told())


def test_an_interrupted_download_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_args: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "_stream", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(Remote("http://127.0.0.1:9/a", "0", 1), tmp_path / "a", Told())
    assert list(tmp_path.glob("*.part")) == list(tmp_path.glob(".*.part")) == []


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion-mnist-train", "cifar10", "cifar10-train"])
def test_offline_never_tries_the_network(name, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_a, **_k: pytest.fail("tried the network"))
    with pytest.raises(CannotRunError, match="PROBE_DATA_DIR") as caught:
        load_images(name, offline=True)
    assert "--offline" in str(caught.value)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_without_a_network_the_failure_is_one_line(name):
    with pytest.raises(CannotRunError, match="cannot be downloaded"):
        load_images(name)


def test_fashion_mnist_is_downloaded_once(root, rng, tmp_path, monkeypatch):
    pixels, _ = fashion(tmp_path / "made", rng)
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    md5 = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in files.items()}
    part = fashion_mnist._FashionPart(
        "fashion-mnist", "t10k", md5["t10k-images-idx3-ubyte.gz"], md5["t10k-labels-idx1-ubyte.gz"]
    )
    monkeypatch.setattr(fashion_mnist, "_TEST", part)
    with server(files) as (base, asked):
        monkeypatch.setattr(fashion_mnist, "MIRROR", base)
        assert len(load_images("fashion-mnist")) == len(pixels)
        assert len(load_images("fashion-mnist")) == len(pixels)
    assert sorted(asked) == sorted(files)
    assert sorted(path.name for path in (root / RAW).iterdir()) == sorted(files)


def test_cifar10_is_downloaded_to_the_cache_when_no_folder_is_named(rng, tmp_path, monkeypatch):
    monkeypatch.delenv(places.DATA_DIR)
    cifar(tmp_path / "made", rng)
    content = archive_of(tmp_path / "made", tmp_path / "made.tar.gz").read_bytes()
    with server({"cifar-10-python.tar.gz": content}) as (base, asked):
        monkeypatch.setattr(cifar10, "ARCHIVE", remote(base, content, "cifar-10-python.tar.gz"))
        for _ in range(2):
            assert len(load_images("cifar10")) == 7
    assert len(asked) == 1
    assert (tmp_path / "home/cache/cnn-probe/data/cifar-10-python.tar.gz").read_bytes() == content


def test_the_published_sums_are_torchvisions():
    from torchvision.datasets import CIFAR10, FashionMNIST

    theirs = dict(FashionMNIST.resources)
    for part in (fashion_mnist._TEST, fashion_mnist._TRAIN):
        images, labels = (f"{name}.gz" for name in part.files)
        assert (theirs[images], theirs[labels]) == (part.images_md5, part.labels_md5)
    source = inspect.getsource(cifar10)
    assert CIFAR10.tgz_md5 in source
    assert CIFAR10.url in source
