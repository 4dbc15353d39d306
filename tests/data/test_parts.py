"""Parts of a data set by the names of their folders, and classes that look like parts."""

from pathlib import Path

import pytest

from alphacl_jax.data import folder, sources
from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.errors import ArgumentError
from tests.data.test_tree import write


def _split(root: Path, train: str, test: str) -> None:
    write(root, *(f"{train}/{name}" for name in ("cat/a.png", "cat/b.png", "dog/c.png")))
    write(root, *(f"{test}/{name}" for name in ("cat/x.png", "dog/y.png")))


SPELLINGS = [
    ("train", "test"),
    ("Train", "Test"),
    ("TRAIN", "VAL"),
    ("Training", "Testing"),
    ("training_set", "test_set"),
    ("train-images", "test images"),
    ("trainset", "ValidationSet"),
    ("train", "eval"),
    ("train", "dev"),
    ("train", "held-out"),
    ("train", "testing"),
    ("train_data", "Evaluation"),
    ("train_sets", "test_sets"),
    ("\uff54\uff52\uff41\uff49\uff4e", "\uff54\uff45\uff53\uff54"),  # letters of full width
]


@pytest.mark.parametrize(("train", "test"), SPELLINGS)
def test_parts_are_known_by_any_usual_name(tmp_path, caplog, train, test):
    _split(tmp_path, train, test)
    data = sources.load("folder", tmp_path)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train.source), len(data.test.source)) == (3, 2)
    assert data.train.source.names[0] == f"{train}/cat/a.png"
    assert caplog.text == ""
    source, class_names = folder.open_any(tmp_path, (5, 6, 1))
    assert class_names == ("cat", "dog")
    assert len(source) == 5


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("train1", "val1"), "train1, val1"),
        (("train2017", "val2017"), "train2017, val2017"),
        (("cat", "dog", "Test_2"), "Test_2"),
        (("fold_1", "fold_2"), "fold_1, fold_2"),
        (("split1", "dog"), "split1"),
    ],
)
def test_class_names_that_look_like_parts_are_refused(tmp_path, names, named):
    write(tmp_path, *(f"{name}/a.png" for name in names))
    with pytest.raises(ArgumentError, match=f"look like parts of a split: {named}. ") as error:
        sources.load("folder", tmp_path)
    assert error.value.argument == "data_dir"


def test_parts_inside_a_part_are_refused(tmp_path):
    write(tmp_path, "train/train/cat/a.png", "train/test/cat/b.png")
    with pytest.raises(ArgumentError, match="look like parts of a split: test, train"):
        sources.load("folder", tmp_path)


def test_names_that_only_contain_one_of_a_part_are_classes(tmp_path):
    names = ("test_tube", "training_shoes", "validated", "device", "fold", "traîn", "Testarossa")
    write(tmp_path, *(f"{name}/a.png" for name in names))
    assert set(sources.load("folder", tmp_path).class_names) == set(names)


@pytest.mark.parametrize("name", ["Testing", "val", "dev"])
def test_a_held_out_part_alone_is_refused(tmp_path, name):
    write(tmp_path, f"{name}/cat/a.png", "other/b.png")
    with pytest.raises(MissingDataError, match=f"has {name}/ but no train/"):
        sources.load("folder", tmp_path)


def test_two_folders_for_one_part_are_refused(tmp_path):
    _split(tmp_path, "train", "test")
    write(tmp_path, "testing/cat/a.png")
    with pytest.raises(ArgumentError, match="has test/ and testing/, which look like the same"):
        sources.load("folder", tmp_path)


def test_held_out_images_without_classes_are_refused(tmp_path, caplog):
    write(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/1.png", "test/2.png")
    with pytest.raises(ArgumentError, match="has no class folders in test/, but 2 images") as error:
        sources.load("folder", tmp_path)
    assert "into the 2 class folders of the training set, or move test/ els" in str(error.value)
    assert caplog.text == ""


@pytest.mark.parametrize(("full", "empty"), [("test", "testing"), ("testing", "test")])
def test_an_empty_folder_is_no_second_part(tmp_path, caplog, full, empty):
    _split(tmp_path, "train", full)
    (tmp_path / empty).mkdir()
    assert len(sources.load("folder", tmp_path).test.source) == 2
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: nothing to read in {empty}/, so {full}/ alone is that part"
    )


def test_of_several_held_out_parts_the_first_with_classes_is_read(tmp_path, caplog):
    _split(tmp_path, "train", "val")
    write(tmp_path, "test/1.png", "test/2.png")  # as of sets whose test labels are kept back
    assert len(sources.load("folder", tmp_path).test.source) == 2
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: train/ and val/ are read; not read are test/ (2 images)"
    )
    _split(tmp_path, "train", "test")
    write(tmp_path, "extra/1.png")
    assert sources.load("folder", tmp_path).test.source.names[0] == "test/cat/x.png"
    assert caplog.records[-1].getMessage().endswith("val/ (2 images), extra/ (1 images)")


def test_a_class_that_is_called_train_is_no_part(tmp_path):
    write(tmp_path, "bus/a.png", "car/b.png", "train/c.png")
    with pytest.raises(ArgumentError, match=r"beside it other folders of images: bus, car\. If 't"):
        sources.load("folder", tmp_path)


def test_a_test_image_that_is_a_training_image_is_said(tmp_path, caplog):
    _split(tmp_path, "train", "test")
    (tmp_path / "test" / "cat" / "z.png").symlink_to(tmp_path / "train" / "cat" / "a.png")
    assert len(sources.load("folder", tmp_path).test.source) == 3
    assert "1 test images are training images too" in caplog.text


def test_any_folder_of_parts_alone_has_the_classes_in_them(tmp_path):
    write(tmp_path / "one", "Test/cat/a.png", "Test/dog/b.png")
    assert folder.open_any(tmp_path / "one", (5, 6, 1))[1] == ("cat", "dog")
    write(tmp_path / "two", "valid/a.png", "invalid/b.png")
    assert folder.open_any(tmp_path / "two", (5, 6, 1))[1] == ("invalid", "valid")
