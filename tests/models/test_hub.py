from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.loopback_server import Server, sends
from helpers.recording_console import Console
from helpers.weight_files import random_state
from safetensors.torch import save
from torch import Tensor

from probe.core.errors import CannotRunError, UsageError
from probe.core.network import Timeouts
from probe.models.load import load_model
from probe.models.source import Access, HubFile
from probe.models.weights import fetch as hub
from probe.models.weights.checkpoint import CheckpointError
from probe.models.weights.fetch import UnobtainableError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/small"
NAMES = ("model.safetensors", "pytorch_model.bin")
FILE = HubFile(REPO, NAMES)
QUICK = Timeouts(connect=2.0, silence=1.0)
ARCHITECTURE = "lcnet_035"


def cache_file(root: Path, name: str, content: bytes, repo: str = REPO, digest: str | None = None) -> Path:
    """Lay a file into a hub cache as huggingface_hub does."""
    folder = root / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / (digest or hashlib.sha256(content).hexdigest())
    link = folder / "snapshots" / COMMIT / name
    for path in (blob, link, folder / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    (folder / "refs" / "main").write_text(COMMIT)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def serve(server: Server, name: str, content: bytes, etag: str | None = None, repo: str = REPO) -> None:
    """Answer for one file of a repository as the hub does."""
    digest = etag or hashlib.sha256(content).hexdigest()
    server.routes[f"/{repo}/resolve/main/{name}"] = sends(
        content, X_Repo_Commit=COMMIT, ETag=f'"{digest}"', X_Linked_Size=str(len(content))
    )


def lacks(server: Server, name: str, repo: str = REPO) -> None:
    def route(handler: Any) -> None:
        handler.send_response(404)
        handler.send_header("X-Error-Code", "EntryNotFound")
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.routes[f"/{repo}/resolve/main/{name}"] = route


@pytest.fixture
def endpoint(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # older versions have a copy in each
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        if hasattr(module, "HF_HUB_DISABLE_XET"):
            monkeypatch.setattr(module, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return server


def test_a_cached_file_needs_no_network() -> None:
    path = cache_file(hub.hub_cache(), "model.safetensors", b"content")
    assert hub.fetch_from_hub(FILE, Access(offline=True)) == path
    assert hub.cached(HubFile("someone/other", NAMES)) is None


def test_the_first_name_that_is_cached_is_used() -> None:
    path = cache_file(hub.hub_cache(), "pytorch_model.bin", b"content")
    assert hub.cached(FILE) == path


def test_a_damaged_cached_file_is_refused() -> None:
    cache_file(hub.hub_cache(), "model.safetensors", b"content", digest="0" * 64)
    with pytest.raises(CheckpointError, match="damaged"):
        hub.cached(FILE)


def test_a_short_etag_is_no_hash() -> None:
    cache_file(hub.hub_cache(), "config.json", b"{}", digest="0" * 40)
    assert hub.cached(HubFile(REPO, ("config.json",))) is not None


def test_offline_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the network was tried")

    monkeypatch.setattr(socket, "create_connection", forbidden)
    with pytest.raises(UnobtainableError, match="not in the Hugging Face cache"):
        hub.fetch_from_hub(FILE, Access(offline=True))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnobtainableError, match="not in the Hugging Face cache"):
        hub.fetch_from_hub(FILE, Access())


def test_a_download_lands_in_the_cache(endpoint: Server, console: Console) -> None:
    content = b"x" * 5000
    serve(endpoint, "model.safetensors", content)
    path = hub.fetch_from_hub(FILE, Access(progress=console), QUICK)
    assert path.read_bytes() == content
    assert hub.hub_cache() in path.parents
    assert console.tasks[0][0] == "Downloading model.safetensors"
    hits = len(endpoint.hits)
    assert hub.fetch_from_hub(FILE, Access()) == path
    assert len(endpoint.hits) == hits


def test_the_next_name_is_tried(endpoint: Server) -> None:
    lacks(endpoint, "model.safetensors")
    serve(endpoint, "pytorch_model.bin", b"weights")
    assert hub.fetch_from_hub(FILE, Access(), QUICK).read_bytes() == b"weights"


def test_none_of_the_names(endpoint: Server) -> None:
    for name in NAMES:
        lacks(endpoint, name)
    with pytest.raises(UnobtainableError, match=r"does not contain model.safetensors, pytorch_model.bin"):
        hub.fetch_from_hub(FILE, Access(), QUICK)


def test_a_wrong_hash_is_refused(endpoint: Server) -> None:
    serve(endpoint, "model.safetensors", b"changed", etag="0" * 64)
    with pytest.raises(CheckpointError, match="damaged"):
        hub.fetch_from_hub(FILE, Access(), QUICK)


def test_an_unreachable_hub_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UnobtainableError, match="cannot be reached"):
            hub.fetch_from_hub(FILE, Access(), QUICK)


def small_repo() -> tuple[bytes, bytes, dict[str, Tensor]]:
    """config.json and weights of a small network with five classes in timm's format."""
    import timm

    state = random_state(timm.create_model(ARCHITECTURE, num_classes=5))
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": 5,
        "label_names": ["a", "b", "c", "d", "e"],
        "model_args": {"drop_rate": 0.1},
        "pretrained_cfg": {
            "input_size": [3, 48, 48],
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "crop_pct": 0.9,
            "interpolation": "bilinear",
            "license": "mit",
            "classifier": "classifier",
            "first_conv": "conv_stem",
        },
    }
    return json.dumps(config).encode(), save(state), state


def test_a_network_from_the_hub(endpoint: Server) -> None:
    import timm

    config, weights, state = small_repo()
    serve(endpoint, "config.json", config, etag="0" * 40)
    serve(endpoint, "model.safetensors", weights)
    model = load_model(f"hf-hub:{REPO}", device="cpu")
    assert model.input.size == (3, 48, 48)
    assert (model.input.crop, model.input.interpolation) == (0.9, "bilinear")
    assert model.class_names == ("a", "b", "c", "d", "e")
    assert model.provenance.licence == "mit"
    assert model.provenance.sha256 == hashlib.sha256(weights).hexdigest()
    reference = timm.create_model(ARCHITECTURE, num_classes=5).eval()
    reference.load_state_dict(state)
    pixels = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    with torch.no_grad():
        wanted = reference((pixels - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(model.logits(pixels), wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_a_cached_network_works_offline() -> None:
    config, weights, _ = small_repo()
    cache_file(hub.hub_cache(), "config.json", config, digest="0" * 40)
    cache_file(hub.hub_cache(), "model.safetensors", weights)
    assert load_model(f"hf-hub:{REPO}", offline=True, device="cpu").num_classes == 5


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b"{}", "not a network in timm's format"),
        (b"not json", "not a network in timm's format"),
        (b"[]", "not a network in timm's format"),
        (b'{"architectures": ["BertModel"]}', "not a network in timm's format"),
        (
            b'{"architecture": "made_up_net"}',
            "made_up_net, which the installed version of timm does not have",
        ),
    ],
)
def test_repositories_that_are_something_else(config: bytes, said: str) -> None:
    cache_file(hub.hub_cache(), "config.json", config, digest="0" * 40)
    with pytest.raises(CannotRunError, match=said):
        load_model(f"hf-hub:{REPO}", offline=True)


def test_names_that_are_no_repositories() -> None:
    for name in ("hf-hub:resnet18", "hf-hub:a/b/c", "hf-hub:/x"):
        with pytest.raises(UsageError, match="hf-hub:ORG/NAME"):
            load_model(name)


def test_offline_says_how_to_fix_it() -> None:
    with pytest.raises(CannotRunError, match="Connect to the internet"):
        load_model("hf-hub:someone/unknown", offline=True)
