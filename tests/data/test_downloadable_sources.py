"""Fashion-MNIST and CIFAR-10: found where they may lie, verified, downloaded when nothing forbids it."""

from __future__ import annotations

import gzip
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, FashionMNIST

from probe.core import paths as places
from probe.core.errors import CannotRunError
from probe.data.images import InputSpec
from probe.data.load import load_images
from probe.data.sources import fashion_mnist
from tests.helpers.data_copies import BATCHES, NAMES, archive_of, cifar_copy, fashion_copy, idx, md5

RAW = Path("FashionMNIST", "raw")


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
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    return tmp_path / "named"


# Fashion-MNIST ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(("name", "prefix"), [("fashion-mnist", "t10k"), ("fashion-mnist-train", "train")])
def test_fashion_mnist_is_read_exactly(end, name, prefix, root, rng):
    pixels, labels = fashion_copy(root / RAW, rng, end, prefix=prefix)
    images = load_images(name, offline=True)
    batch = next(images.batches(InputSpec((1, 28, 28)), 99))
    assert np.array_equal(batch.images[:, 0].numpy(), pixels.astype(np.float32) / np.float32(255))
    assert np.array_equal(batch.labels.numpy(), labels)
    assert (images.domain, images.framed, images.num_classes) == ("fashion-mnist", True, 10)
    assert images.class_names[9] == "Ankle boot"


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
    fashion_copy(folder, rng)
    assert len(load_images("fashion-mnist", offline=True)) == 12
    assert sorted(path.suffix for path in folder.iterdir()) == [".gz", ".gz"]


def test_the_named_folder_comes_first(root, rng, tmp_path):
    fashion_copy(tmp_path / "debian", rng, count=30)
    fashion_copy(root / RAW, rng, count=11)
    assert len(load_images("fashion-mnist")) == 11


def test_half_a_data_set_is_not_taken(root, rng):
    fashion_copy(root / RAW, rng)
    (root / RAW / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(CannotRunError, match="not on this machine"):
        load_images("fashion-mnist", offline=True)


PIXELS, LABELS = np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.uint8)
PACKED = gzip.compress(idx(PIXELS), mtime=0)


@pytest.mark.parametrize(
    ("images", "labels", "end"),
    [
        (idx(PIXELS)[:-1], idx(LABELS), ""),
        (idx(PIXELS) + b"\0", idx(LABELS), ""),
        (idx(PIXELS)[:9], idx(LABELS), ""),
        (b"", idx(LABELS), ""),
        (b"\0\0\x0d\x03" + idx(PIXELS)[4:], idx(LABELS), ""),
        (idx(LABELS), idx(LABELS), ""),
        (idx(PIXELS), idx(PIXELS), ""),
        (idx(PIXELS), idx(LABELS[:3]), ""),
        (idx(PIXELS[:, :27]), idx(LABELS), ""),
        (idx(PIXELS[:0]), idx(LABELS[:0]), ""),
        (idx(PIXELS), idx(LABELS + np.uint8(10)), ""),
        (PACKED[:20], gzip.compress(idx(LABELS), mtime=0), ".gz"),
        (b"no gzip", gzip.compress(idx(LABELS), mtime=0), ".gz"),
        (PACKED[:-8] + b"\0" * 8, gzip.compress(idx(LABELS), mtime=0), ".gz"),
        (PACKED[:15] + b"\xff\xff" + PACKED[17:], gzip.compress(idx(LABELS), mtime=0), ".gz"),
    ],
)
def test_files_that_are_something_else_are_refused_in_a_line(images, labels, end, root):
    (root / RAW).mkdir(parents=True)
    (root / RAW / f"t10k-images-idx3-ubyte{end}").write_bytes(images)
    (root / RAW / f"t10k-labels-idx1-ubyte{end}").write_bytes(labels)
    with pytest.raises(CannotRunError, match=r"does not contain Fashion-MNIST .*Remove .*t10k") as caught:
        load_images("fashion-mnist", offline=True)
    assert "\n" not in str(caught.value)


# CIFAR-10 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "parts"), [("cifar10", slice(5, 6)), ("cifar10-train", slice(5))])
def test_cifar10_is_read_exactly(packed, name, parts, root, rng, tmp_path, monkeypatch):
    where = tmp_path / "made" if packed else root
    pixels, labels = cifar_copy(where, rng, monkeypatch)
    if packed:
        archive_of(where, root / "cifar-10-python.tar.gz", monkeypatch)
    images = load_images(name, offline=True)
    batch = next(images.batches(InputSpec((3, 32, 32)), 99))
    wanted = pixels[parts].reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
    assert np.array_equal(batch.images.numpy(), wanted.astype(np.float32) / np.float32(255))
    assert np.array_equal(batch.labels.numpy(), labels[parts].reshape(-1))
    assert (images.domain, images.framed, images.class_names) == ("cifar10", True, NAMES)


def test_an_archive_elsewhere_is_extracted_to_the_folder_for_downloads_once(rng, tmp_path, monkeypatch):
    monkeypatch.delenv(places.DATA_DIR)
    cifar_copy(tmp_path / "made", rng, monkeypatch)
    archive_of(tmp_path / "made", tmp_path / "home/data/cifar-10-python.tar.gz", monkeypatch)
    assert len(load_images("cifar10", offline=True)) == 10
    assert (tmp_path / "home/cache/cnn-probe/data" / BATCHES / "test_batch").is_file()
    (tmp_path / "home/data/cifar-10-python.tar.gz").unlink()
    assert len(load_images("cifar10", offline=True)) == 10


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["test_batch", "data_batch_3", "batches.meta"])
def test_a_hostile_pickle_runs_nothing(packed, name, root, rng, tmp_path, monkeypatch):
    marker, where = tmp_path / "marker", tmp_path / "made" if packed else root
    cifar_copy(where, rng, monkeypatch)
    known = md5(b"as published")
    (where / BATCHES / name).write_bytes(pickle.dumps(Hostile(marker), protocol=2))
    if packed:
        archive_of(where, tmp_path / "home/data/cifar-10-python.tar.gz", monkeypatch)
        monkeypatch.setattr(CIFAR10, "tgz_md5", known)
    with pytest.raises(CannotRunError, match=r"is not the published CIFAR-10 .*Remove it"):
        load_images("cifar10-train", offline=True)
    assert not marker.exists()


# Downloads ----------------------------------------------------------------------------------------------


@contextmanager
def server(files: dict[str, bytes], fault: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve files on this machine: whole, or ``cut`` to their first half."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            name = self.path.lstrip("/")
            if name not in files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[name])))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            content = files.get(self.path.lstrip("/"), b"")
            asked.append(self.path.lstrip("/"))
            self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}/", asked
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion-mnist-train", "cifar10", "cifar10-train"])
def test_offline_never_tries_the_network(name, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_a, **_k: pytest.fail("tried the network"))
    monkeypatch.setattr("socket.create_connection", lambda *_a, **_k: pytest.fail("tried the network"))
    with pytest.raises(CannotRunError, match="PROBE_DATA_DIR") as caught:
        load_images(name, offline=True)
    assert "--offline" in str(caught.value)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_without_a_network_the_failure_is_one_line(name):
    with pytest.raises(CannotRunError, match=r"[Cc]ould not download.*127") as caught:
        load_images(name)
    assert "\n" not in str(caught.value)


def served_fashion(
    folder: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    for prefix in ("train", "t10k"):
        fashion_copy(folder, rng, prefix=prefix)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(FashionMNIST, "resources", [(name, md5(content)) for name, content in files.items()])
    return files


def test_fashion_mnist_is_downloaded_once_and_in_silence(root, rng, tmp_path, monkeypatch, capfd):
    files = served_fashion(tmp_path / "made", rng, monkeypatch)
    with server(files) as (base, asked):
        monkeypatch.setattr(FashionMNIST, "mirrors", [base])
        assert len(load_images("fashion-mnist")) == 12
        assert set(asked) == set(files)
        asked.clear()
        assert len(load_images("fashion-mnist-train")) == 12
    assert asked == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("fault", ["cut", "changed"])
def test_a_download_that_is_not_what_was_published_is_refused(fault, rng, tmp_path, monkeypatch):
    files = served_fashion(tmp_path / "made", rng, monkeypatch)
    if fault == "changed":
        files = {name: content + b"\0" for name, content in files.items()}
    with server(files, fault) as (base, _):
        monkeypatch.setattr(FashionMNIST, "mirrors", [base])
        with pytest.raises(CannotRunError, match=r"[Cc]ould not download") as caught:
            load_images("fashion-mnist")
    assert "\n" not in str(caught.value)


def test_cifar10_is_downloaded_to_the_cache_when_no_folder_is_named(rng, tmp_path, monkeypatch):
    monkeypatch.delenv(places.DATA_DIR)
    cifar_copy(tmp_path / "made", rng, monkeypatch)
    content = archive_of(tmp_path / "made", tmp_path / "made.tar.gz", monkeypatch)
    place = tmp_path / "home/cache/cnn-probe/data"
    with server({"cifar-10-python.tar.gz": content}) as (base, asked):
        monkeypatch.setattr(CIFAR10, "url", base + "cifar-10-python.tar.gz")
        place.mkdir(parents=True)
        (place / "cifar-10-python.tar.gz").write_bytes(content[:999])  # a download that broke off
        assert len(load_images("cifar10")) == 10
        assert set(asked) == {"cifar-10-python.tar.gz"}
        asked.clear()
        (place / BATCHES / "data_batch_1").write_bytes(b"damaged")
        for _ in range(2):
            assert len(load_images("cifar10")) == 10
    assert asked == []


def test_archives_that_are_none_are_refused(root, tmp_path, monkeypatch):
    monkeypatch.delenv(places.DATA_DIR)
    target = tmp_path / "home/data/cifar-10-python.tar.gz"
    target.parent.mkdir()
    with tarfile.open(target, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(CannotRunError, match="is not the published CIFAR-10"):
        load_images("cifar10", offline=True)
    assert not (tmp_path / "outside").exists()
