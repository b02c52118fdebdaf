"""Labels of class folders become the network's class numbers, or a refusal says how."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from probe.core.errors import CannotRunError, UsageError
from probe.data.images import ImageSet
from probe.data.load import load_images
from probe.models.loaded import LoadedModel
from probe.models.match import match_labels
from probe.models.wrap import wrap


def folder(root: Path, *names: str) -> Path:
    for name in names:
        place = root / name / f"{name.replace('/', '-')}.png"
        place.parent.mkdir(parents=True)
        Image.new("L", (4, 4)).save(place)
    return root


def model(classes: int | Sequence[str], domain: str = "unknown") -> LoadedModel:
    count = classes if isinstance(classes, int) else len(classes)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, count))
    return wrap(
        network, input_size=(1, 4, 4), classes=None if isinstance(classes, int) else classes, domain=domain
    )


def labels(images: ImageSet) -> dict[str, int | None]:
    """The label of each class folder, by the name of its first image."""
    return {images.item_name(index).partition("/")[0]: images.label(index) for index in range(len(images))}


def test_wordnet_ids_are_imagenets_classes(tmp_path: Path) -> None:
    images = load_images(folder(tmp_path, "n01440764", "n02102040", "n03888257"))
    found = match_labels(model(1000, "imagenet"), images)
    assert labels(found) == {"n01440764": 0, "n02102040": 217, "n03888257": 701}
    assert found.num_classes == 1000
    assert "WordNet" in found.matching
    assert any("997" in caution for caution in found.cautions)
    assert any("assumed" in caution for caution in match_labels(model(1000), images).cautions)


def test_ten_wordnet_ids_are_ten_classes_for_a_network_with_ten(tmp_path: Path) -> None:
    names = [f"n{number:08d}" for number in range(10)]
    assert list(labels(match_labels(model(10), load_images(folder(tmp_path, *names)))).values()) == list(
        range(10)
    )


@given(st.permutations(["cat", "Great_White", "sea-lion", "toad"]))
def test_names_decide_whatever_the_order_of_the_networks_classes(order: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        images = load_images(folder(Path(place), "Cat", "great white", "sea lion", "toad"))
        found = labels(match_labels(model(order), images))
    plain = [name.lower().replace("_", " ").replace("-", " ") for name in order]
    assert found == {name: plain.index(name.lower()) for name in found}


def test_some_names_that_match_and_some_that_do_not_are_refused(tmp_path: Path) -> None:
    images = load_images(folder(tmp_path, "cat", "dgo", "toad"))
    with pytest.raises(UsageError, match=r"dgo.*--class-map"):
        match_labels(model(["toad", "cat", "dog"]), images)


def test_names_that_do_not_match_at_all_are_matched_by_order_with_a_caution(tmp_path: Path) -> None:
    found = match_labels(model(["x", "y"]), load_images(folder(tmp_path, "0ja", "1nein")))
    assert labels(found) == {"0ja": 0, "1nein": 1}
    assert any("'0ja' is taken as 'x'" in caution for caution in found.cautions)


def test_numbered_folders_are_class_numbers(tmp_path: Path) -> None:
    found = match_labels(model(12), load_images(folder(tmp_path, *map(str, range(12)))))
    assert labels(found) == {str(number): number for number in range(12)}
    assert any("as text" in caution for caution in found.cautions)


def test_some_numbered_folders_are_their_own_classes(tmp_path: Path) -> None:
    found = match_labels(model(10), load_images(folder(tmp_path, "0", "3", "7")))
    assert labels(found) == {"0": 0, "3": 3, "7": 7}


def test_folders_numbered_from_one_are_shifted_with_a_caution(tmp_path: Path) -> None:
    found = match_labels(model(3), load_images(folder(tmp_path, "1", "2", "3")))
    assert labels(found) == {"1": 0, "2": 1, "3": 2}
    assert any("numbered from 1" in caution for caution in found.cautions)


def test_a_number_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder 12"):
        match_labels(model(10), load_images(folder(tmp_path, "0", "12")))


def test_fewer_folders_than_classes_are_refused_with_both_counts_and_the_cure(tmp_path: Path) -> None:
    images = load_images(folder(tmp_path, "a", "b"))
    with pytest.raises(UsageError, match=r"has 3 classes.*has 2.*empty folder"):
        match_labels(model(3), images)
    assert match_labels(model(3), images, strict=False) is images


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_class_map_decides(form: str, tmp_path: Path) -> None:
    data, table = folder(tmp_path / "data", "a", "b"), tmp_path / f"map.{form}"
    table.write_text(json.dumps({"a": "toad", "b": 0}) if form == "json" else "a,toad\nb,0\n")
    found = match_labels(model(["cat", "dog", "toad"]), load_images(data, class_map=table))
    assert labels(found) == {"a": 2, "b": 0}
    assert found.class_names == ("cat", "dog", "toad")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,0\n", "no class for b"),
        ("a,0\nb,9\n", "'9'.*0 to 2"),
        ("a,0\nb\n", "line 2"),
        ("{", "not valid JSON"),
        ('{"a": [1]}', "number or name"),
        ("", "FOLDER,CLASS"),
    ],
)
def test_a_class_map_that_cannot_be_used_is_a_usage_error(text: str, reason: str, tmp_path: Path) -> None:
    data, table = folder(tmp_path / "data", "a", "b"), tmp_path / "map.txt"
    table.write_text(text)
    with pytest.raises(UsageError, match=reason):
        match_labels(model(3), load_images(data, class_map=table))


def test_registered_data_keep_their_labels() -> None:
    images = load_images("digits", n=10)
    assert match_labels(model(10), images) is images


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "test", "README"), ("train",)])
def test_the_root_of_a_data_set_with_splits_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        folder(tmp_path / name, "cat", "dog")
    with pytest.raises(UsageError, match="splits"):
        load_images(tmp_path)


def test_splits_with_tables_of_labels_are_refused_and_others_get_a_caution(tmp_path: Path) -> None:
    """The layout of Hugging Face: images and metadata.csv in train/ and test/, which are no classes."""
    flat(tmp_path, "train/x.png", "train/y.png", "test/z.png")
    images = load_images(tmp_path)
    assert images.class_names == ("test", "train")
    assert ["splits" in caution for caution in images.cautions] == [True]
    with pytest.raises(UsageError, match=r"has 2: test, train.*splits"):
        match_labels(model(4), images)
    (tmp_path / "test" / "metadata.csv").write_text("file_name,label\nz.png,1\n")
    with pytest.raises(UsageError, match=r"splits with a table of labels.*test"):
        load_images(tmp_path)
    inside = load_images(tmp_path / "test")
    assert [inside.label(0), inside.skipped] == [1, ()]


def test_files_that_windows_leaves_are_ignored_like_hidden_ones(tmp_path: Path) -> None:
    folder(tmp_path, "cat", "dog")
    for name in ("Thumbs.db", "desktop.ini", "cat/Thumbs.db", "dog/.DS_Store"):
        (tmp_path / name).write_bytes(b"system")
    (tmp_path / "notes.txt").write_text("mine")
    images = load_images(tmp_path)
    assert len(images) == 2
    assert [item.name for item in images.skipped] == ["notes.txt"]


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    images = load_images(folder(tmp_path, "plane", "train"))
    assert images.class_names == ("plane", "train")
    assert load_images(folder(tmp_path / "two", "test", "train")).class_names == ("test", "train")


def test_system_folders_are_no_classes_and_are_named(tmp_path: Path) -> None:
    folder(tmp_path, "cat", "dog", "__MACOSX", "@eaDir", "lost+found", "dog/@eaDir")
    images = load_images(tmp_path)
    assert images.class_names == ("cat", "dog")
    assert len(images) == 2
    assert {item.name for item in images.skipped} == {"__MACOSX", "@eaDir", "lost+found", "dog/@eaDir"}


def flat(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(root / name)
    return root


@pytest.mark.parametrize("columns", ["", ":id,breed"])
def test_labels_may_be_in_a_table(columns: str, tmp_path: Path) -> None:
    data, table = flat(tmp_path / "data", "x.png", "y.png", "sub/z.png", "rest.png"), tmp_path / "train.csv"
    heading = "n,id,breed" if columns else "n,image,label"
    table.write_text(f"{heading}\n1,x,toad\n2,y.png,cat\n3,sub/z.png,toad\n4,gone,cat\n")
    images = load_images(data, labels_csv=f"{table}{columns}")
    found = {images.item_name(index): images.label(index) for index in range(len(images))}
    assert found == {"x.png": 1, "y.png": 0, "sub/z.png": 1}
    assert images.class_names == ("cat", "toad")
    assert {item.name for item in images.skipped} == {"rest.png", "gone"}
    assert [match_labels(model(["toad", "cat"]), images).label(i) for i in range(3)] == [
        {1: 0, 0: 1}[images.label(i) or 0] for i in range(3)
    ]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_table_may_have_other_delimiters(mark: str, tmp_path: Path) -> None:
    data, table = flat(tmp_path / "data", "x.png", "y.png"), tmp_path / "t.csv"
    table.write_text("\ufefffile;label\nx.png;toad, green\ny.png;cat\n".replace(";", mark), encoding="utf-8")
    images = load_images(data, labels_csv=table)
    assert images.class_names == ("cat", "toad, green")
    assert [images.label(0), images.label(1)] == [1, 0]


def test_numbers_in_a_table_are_class_numbers(tmp_path: Path) -> None:
    data, table = flat(tmp_path / "data", "x.png", "y.png"), tmp_path / "t.csv"
    table.write_text("file,label\nx.png,7\ny.png,0\n")
    found = match_labels(model(10), load_images(data, labels_csv=table))
    assert [found.label(0), found.label(1)] == [7, 0]
    with pytest.raises(UsageError, match="label 7"):
        match_labels(model(3), load_images(data, labels_csv=table))


@pytest.mark.parametrize(
    ("text", "words", "reason"),
    [
        ("a,b\nx,1\n", "", "columns a, b"),
        ("file,label\nx,1\n", ":file,breed", "no column 'breed'"),
        ("file,label\nx,\n", "", "row 2"),
        ("file,label\nx,1\nx,2\n", "", "two labels for x"),
        ("file,label\n", "", "line of headings"),
        ("x.png,1\ny.png,0\n", "", "no line of headings.*x.png, 1"),
        ("file,cat,dog\nx,0.0,1.0\ny,1.0,0.0\n", "", "one-hot.*cat, dog.*idxmax"),
    ],
)
def test_a_table_that_cannot_be_used_is_a_usage_error(
    text: str, words: str, reason: str, tmp_path: Path
) -> None:
    data, table = flat(tmp_path / "data", "x.png"), tmp_path / "t.csv"
    table.write_text(text)
    with pytest.raises(UsageError, match=reason):
        load_images(data, labels_csv=f"{table}{words}")


def test_a_table_of_other_files_says_what_it_lists(tmp_path: Path) -> None:
    data, table = flat(tmp_path / "data", "x.png"), tmp_path / "t.csv"
    table.write_text("file,label\nother,1\n")
    with pytest.raises(CannotRunError, match="other"):
        load_images(data, labels_csv=table)


def test_images_in_memory_are_not_told_about_folders() -> None:
    from probe.data.objects import from_object

    pixels, names = np.zeros((3, 4, 4), np.uint8), np.array(["cat", "dog", "owl"])
    images = from_object(pixels, names, 9, 0, "")
    matched = match_labels(model(["owl", "cat", "dog"]), images)
    assert [matched.label(index) for index in range(3)] == [1, 2, 0]
    with pytest.raises(UsageError, match=r"has 3: cat, dog, owl.*class numbers") as refused:
        match_labels(model(4), images)
    assert "folder" not in str(refused.value).casefold()
    assert "class map" not in str(refused.value)
