from __future__ import annotations

import argparse
import datetime
import enum
import functools
import json
import os
import pickle
import subprocess
import tarfile
import types
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.weight_files import Net, random_state, sha256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from probe.core.errors import CannotRunError, ProbeError, UsageError
from probe.models.weights.checkpoint import CheckpointError, looks_like_path, read_checkpoint
from probe.models.weights.file_type import forbidden_globals


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.target}'",)


class EvilBuiltin:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


class EvilPopen:
    def __reduce__(self) -> tuple[object, tuple[list[str]]]:
        return subprocess.Popen, (["true"],)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def state(net: Net) -> dict[str, Tensor]:
    return random_state(net)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".bin", ".PTH"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files(tmp_path: Path, state: dict[str, Tensor], suffix: str, zipped: bool) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    assert same(checkpoint.state, state)
    assert checkpoint.sha256 == sha256(path)
    assert checkpoint.notes == ()


def test_safetensors(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    assert same(read_checkpoint(path).state, state)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "ema", "state_dict_ema"])
def test_wrappers(tmp_path: Path, state: dict[str, Tensor], key: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(
        {"epoch": 3, key: OrderedDict(state), "best": 0.5, "optimizer": {"state": {}, "lr": 1.0}}, path
    )
    assert same(read_checkpoint(path).state, state)


def test_wrappers_in_wrappers(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"ema": {"decay": 0.9, "module": state}}, path)
    assert same(read_checkpoint(path).state, state)


def test_averaged_weights_are_preferred_and_said(tmp_path: Path, net: Net) -> None:
    path = tmp_path / "weights.pth"
    plain, averaged = random_state(net, 1), random_state(net, 2)
    torch.save({"state_dict": plain, "state_dict_ema": averaged}, path)
    checkpoint = read_checkpoint(path)
    assert same(checkpoint.state, averaged)
    assert "averaged" in checkpoint.notes[0]


def test_an_empty_wrapper_is_passed_over(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"ema": None, "model": state}, path)
    assert same(read_checkpoint(path).state, state)


def refused(path: Path, *words: str, kind: type[ProbeError] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    for word in words:
        assert word in message
    return message


def test_missing_file_and_folder_and_any_extension(tmp_path: Path, state: dict[str, Tensor]) -> None:
    refused(tmp_path / "none.pth", "no weights file", kind=UsageError)
    (tmp_path / "folder.pth").mkdir()
    refused(tmp_path / "folder.pth", "folder", kind=UsageError)
    torch.save(state, tmp_path / "weights.onnx")
    assert same(read_checkpoint(tmp_path / "weights.onnx").state, state)


BROKEN = {
    "empty.pth": (b"", "empty"),
    "zeros.pth": (bytes(100), "empty"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10\n", "git-LFS"),
    "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-LFS"),
    "page.pth": (b"\n <!DOCTYPE html><html><head><title>404</title></head></html>", "web page"),
    "page.bin": (b"<html><body>Not found</body></html>", "web page"),
    "error.pth": (b'{"error": "Repository not found"}', "JSON"),
    "keras.pth": (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
    "text.pth": (b"hello, world, this is a text\n" * 5, "not a PyTorch or safetensors"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_are_something_else(tmp_path: Path, name: str) -> None:
    content, word = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, word)


def test_numpy_and_other_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "NumPy")
    np.save(tmp_path / "b.npy", np.zeros(3))
    (tmp_path / "b.npy").rename(tmp_path / "b.pth")
    refused(tmp_path / "b.pth", "NumPy")
    with zipfile.ZipFile(tmp_path / "c.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "c.pth", "zip archive")


@pytest.mark.parametrize(
    "name", ["model_best.pth.tar", "last.ckpt", "pytorch_model.bin", "weights", "a.safetensors"]
)
def test_the_content_decides_and_not_the_name(tmp_path: Path, state: dict[str, Tensor], name: str) -> None:
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / name)
    assert same(read_checkpoint(tmp_path / name).state, state)
    save_file(state, tmp_path / name)
    assert same(read_checkpoint(tmp_path / name).state, state)


def test_a_tar_archive_is_called_one(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "w.pth")
    with tarfile.open(tmp_path / "real.pth.tar", "w") as archive:
        archive.add(tmp_path / "w.pth", "w.pth")
    refused(tmp_path / "real.pth.tar", "tar archive", "unpack")


@pytest.mark.parametrize("key", ["net", "params", "my_own_key", "model.inner", "ema.module"])
def test_the_tensors_are_found_wherever_they_lie(tmp_path: Path, state: dict[str, Tensor], key: str) -> None:
    kept: object = state
    for part in reversed(key.split(".")):
        kept = {part: kept, "acc": 93.1, "best": torch.tensor(0.5)}
    torch.save(kept, tmp_path / "w.pth")
    assert same(read_checkpoint(tmp_path / "w.pth").state, state)


def test_the_dictionary_that_fits_is_used(tmp_path: Path) -> None:
    torch.save(
        {"teacher": random_state(nn.Linear(9, 9)), "student": random_state(nn.Linear(2, 3))},
        tmp_path / "w.pth",
    )
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert {found.key for found in checkpoint.candidates} == {"teacher", "student"}
    chosen = checkpoint.choose({"teacher": 0, "student": 2})
    assert chosen.state["weight"].shape == (3, 2)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_a_sharded_checkpoint_is_read_by_its_index(
    tmp_path: Path, state: dict[str, Tensor], form: str
) -> None:
    keys = list(state)
    parts = {f"part1.{form}": keys[::2], f"part2.{form}": keys[1::2]}
    for name, names in parts.items():
        part = {key: state[key] for key in names}
        save_file(part, tmp_path / name) if form == "safetensors" else torch.save(part, tmp_path / name)
    index = tmp_path / f"model.{form}.index.json"
    index.write_text(
        json.dumps({"weight_map": {key: name for name, names in parts.items() for key in names}})
    )
    for place in (index, tmp_path):
        checkpoint = read_checkpoint(place)
        assert same(checkpoint.state, state)
        assert "2 parts" in checkpoint.notes[0]
    (tmp_path / f"part2.{form}").unlink()
    refused(index, "2 parts", f"part2.{form}")
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    refused(index, "outside its folder")


def test_a_view_of_little_data_is_refused_before_its_values_are_touched(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 20, 1 << 14)}, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 5000
    refused(tmp_path / "w.pth", "expanded")


def test_a_compressed_file_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as old,
        zipfile.ZipFile(tmp_path / "c.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    refused(tmp_path / "c.pth", "compressed")


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_files(tmp_path: Path, form: str, kept: float) -> None:
    state = {f"layer{i}.weight": torch.randn(64, 8) for i in range(20)}
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    refused(path, "damaged")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_one_sentence_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever bytes change, the file is read or refused; nothing else happens."""
    path = tmp_path / "w.pth"
    torch.save({"a.weight": torch.ones(4, 4), "b": torch.zeros(3)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = ""
        try:
            read_checkpoint(path)
        except CannotRunError as error:
            message = str(error)
        assert "\n" not in message


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickles_do_not_run(tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "trace"
    for number, value in enumerate((Evil(trace), {"state_dict": {"w": torch.zeros(1), "x": Evil(trace)}})):
        path = tmp_path / f"evil{number}.pth"
        torch.save(value, path, _use_new_zipfile_serialization=zipped)
        refused(path, f"{os.name}.system" if os.name == "nt" else "posix.system", "not opened")
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_bare_pickles_do_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    for zeroth, value in enumerate((EvilBuiltin(), EvilPopen(), Evil(trace))):
        path = tmp_path / f"{zeroth}.pth"
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        refused(path, "written by pickle", "not opened")
    assert not trace.exists()


def test_bare_pickles_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps({"a": np.zeros(3)}))
    refused(path, "written by pickle", "torch.save")


def test_a_network_that_was_saved_as_a_whole_is_read_without_running_it(tmp_path: Path, net: Net) -> None:
    path = tmp_path / "model.pth"
    torch.save(net, path)
    checkpoint = read_checkpoint(path)
    assert same(checkpoint.state, dict(net.state_dict()))
    assert "Net" in checkpoint.notes[0]
    assert "none of it was built or run" in checkpoint.notes[0]
    torch.save(net, path, _use_new_zipfile_serialization=False)
    refused(path, "not opened", "weights_only=False")


class Suit(enum.Enum):
    CLUBS = 1


HARMLESS = {
    "namespace": argparse.Namespace(lr=0.1),
    "scalar": np.float64(0.9),
    "array": np.arange(6.0),
    "path": Path("x"),
    "partial": functools.partial(torch.optim.SGD, lr=0.1),
    "date": datetime.date(2026, 1, 1),
    "counter": Counter("aab"),
    "default dictionary": defaultdict(int, a=1),
    "dictionary of dictionaries": defaultdict(dict),
    "simple namespace": types.SimpleNamespace(lr=0.1),
    "queue": deque([1, 2]),
    "types": (int, dict, str),
    "enumeration": Suit.CLUBS,
    "scheduler": torch.optim.lr_scheduler.StepLR(
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1), 1
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_objects_are_left_aside(
    tmp_path: Path, state: dict[str, Tensor], name: str, zipped: bool
) -> None:
    path = tmp_path / "w.pth"
    torch.save({"extra": HARMLESS[name], "model": state}, path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    assert same(checkpoint.state, state)
    assert not any("harm" in note for note in checkpoint.notes)


def test_reading_leaves_torchs_list_of_safe_classes_alone(tmp_path: Path, state: dict[str, Tensor]) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save({"extra": argparse.Namespace(lr=0.1), "model": state}, tmp_path / "w.pth")
    read_checkpoint(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    refused(path, "TorchScript", "state_dict()")


def test_programs_and_networks_of_other_kinds_are_called_what_they_are(tmp_path: Path) -> None:
    program, keras, onnx = tmp_path / "net.pt2", tmp_path / "net.keras", tmp_path / "net.onnx"
    exported = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(exported, program)
    refused(program, "torch.export", "state_dict")
    with zipfile.ZipFile(keras, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"\x89HDF")
    refused(keras, "Keras")
    onnx.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.4.0:\x80\x01")
    refused(onnx, "ONNX", "exported")


@pytest.mark.parametrize("value", [3, [torch.zeros(2)], {"lr": 0.1}, {}, torch.zeros(3)])
def test_no_state_dict(tmp_path: Path, value: object) -> None:
    path = tmp_path / "w.pth"
    torch.save(value, path)
    refused(path, "not a state dict")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(3), "b.weight": torch.tensor([0.0, bad])}, path)
    refused(path, "b.weight", "1 of 2")


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(3)}, path)

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    refused(path, "Permission denied")


def test_globals_that_tensors_need_are_not_reported(tmp_path: Path, state: dict[str, Tensor]) -> None:
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        torch.save(OrderedDict(half), path, _use_new_zipfile_serialization=zipped)
        assert forbidden_globals(path) == ()


def test_paths_and_names_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert looks_like_path("a/b")
    assert looks_like_path("w.pth")
    assert looks_like_path("W.SAFETENSORS")
    assert not looks_like_path("IMAGENET1K_V1")
    (tmp_path / "plain").write_text(json.dumps({}))
    assert looks_like_path("plain")
