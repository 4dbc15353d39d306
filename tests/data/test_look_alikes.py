"""Class folders that are rather parts of a split: refused, or said where they may be classes."""

import pytest

from alphacl_jax.data import folder, sources
from alphacl_jax.errors import ArgumentError
from tests.data.test_tree import write

TWO_PARTS = [
    ("seg_train", "seg_test"),
    ("asl_alphabet_train", "asl_alphabet_test"),
    ("trainA", "testA"),
    ("train_v1", "test_v1"),
    ("train-v2", "val-v2"),
    ("train_224x224", "test_224x224"),
    ("images_train", "images_test"),
    ("data train", "data test"),
    ("a.train", "a.valid"),
    ("1_train", "2_test"),
    ("myTrain", "myTest"),
    ("trn", "tst"),
    ("train_a", "train_b"),
    ("fold_a", "fold_b"),
    ("partition_1", "partition_2"),
]


@pytest.mark.parametrize("names", TWO_PARTS)
@pytest.mark.parametrize("inside", ["cat/", ""])
def test_two_names_that_differ_by_the_part_are_refused(tmp_path, names, inside):
    write(tmp_path, *(f"{name}/{inside}a.png" for name in (*names, "other")))
    with pytest.raises(ArgumentError, match="look like parts of a split: ") as error:
        sources.load("folder", tmp_path)
    assert f": {', '.join(sorted(names))}. Call the parts train/" in str(error.value)


def test_parts_may_lie_deeper(tmp_path):
    write(
        tmp_path, *(f"seg_{part}/seg_{part}/{c}/a.png" for part in ("train", "test") for c in "xy")
    )
    with pytest.raises(ArgumentError, match="look like parts of a split: seg_test, seg_train"):
        sources.load("folder", tmp_path)


@pytest.mark.parametrize("names", [("mytrain", "mytest"), ("trainer", "tester")])
def test_words_within_words_are_parts_where_both_hold_the_same_classes(tmp_path, caplog, names):
    write(tmp_path, *(f"{name}/a.png" for name in names))
    assert sources.load("folder", tmp_path).class_names == tuple(sorted(names))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"{tmp_path}: read as classes, though they look like parts of the data: "
        f"{', '.join(sorted(names))}. If"
    )
    write(tmp_path, *(f"{name}/{inside}/a.png" for name in names for inside in ("cat", "dog")))
    with pytest.raises(ArgumentError, match="look like parts of a split"):
        sources.load("folder", tmp_path)


@pytest.mark.parametrize(
    "names", [("labeled", "unlabeled"), ("cv1", "cv2"), ("tr", "te"), ("ann", "bob", "eve")]
)
def test_classes_that_all_hold_the_same_folders_are_said(tmp_path, caplog, names):
    write(tmp_path, *(f"{name}/{inside}/a.png" for name in names for inside in ("cat", "dog")))
    assert sources.load("folder", tmp_path).class_names == tuple(sorted(names))
    (record,) = caplog.records
    assert ", ".join(sorted(names)) in record.getMessage()
    assert "train/ and test/" in record.getMessage()
    caplog.clear()
    write(tmp_path, "odd/one.png")
    sources.load("folder", tmp_path)
    assert ("unlabeled" in caplog.text) == ("unlabeled" in names)
    assert "hold the same" not in caplog.text


@pytest.mark.parametrize("names", [("dsA", "dsB"), ("cat", "dog")])
@pytest.mark.parametrize("parts", [("train", "test"), ("Training", "val")])
def test_classes_that_hold_parts_are_refused(tmp_path, caplog, names, parts):
    write(tmp_path, *(f"{name}/{part}/x/a.png" for name in names for part in parts))
    with pytest.raises(ArgumentError, match="hold parts of a split themselves") as error:
        sources.load("folder", tmp_path)
    assert f"themselves: {names[0]}, {names[1]}. Sort the images into" in str(error.value)
    assert str(error.value).endswith(f"data_dir={tmp_path / names[0]}")
    # Embedded whole, they have these classes.
    assert folder.open_any(tmp_path, (5, 6, 1))[1] == names
    assert caplog.text == ""


CLASSES = ("bus", "cat", "train")


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_class_called_train_in_both_parts_is_a_class(tmp_path, caplog, held_out):
    write(tmp_path, *(f"{part}/{name}/a.png" for part in ("train", held_out) for name in CLASSES))
    data = sources.load("folder", tmp_path)
    assert data.class_names == CLASSES
    assert len(data.test.source) == 3
    assert caplog.text == ""


def test_a_class_called_train_without_held_out_images_is_said(tmp_path, caplog):
    write(tmp_path, *(f"train/{name}/a.png" for name in CLASSES))
    assert sources.load("folder", tmp_path).class_names == CLASSES
    assert (
        f"{tmp_path}/train: read as classes, though they look like parts of the data: train. If"
        in caplog.text
    )


@pytest.mark.parametrize(
    "inside", [("train", "val", "cat"), ("train", "train2"), ("fold1", "fold2")]
)
def test_parts_inside_a_part_are_refused(tmp_path, inside):
    write(tmp_path, *(f"train/{name}/a.png" for name in inside))
    with pytest.raises(ArgumentError, match="look like parts of a split: "):
        sources.load("folder", tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("test_tube", "training_shoes"),
        ("strain", "protest", "device"),
        ("val d'isere", "st_anton"),
        ("contest", "retrain"),
        ("apple_a", "apple_b"),
    ],
)
def test_names_that_only_contain_such_words_are_classes(tmp_path, caplog, names):
    write(tmp_path, *(f"{name}/a.png" for name in names))
    assert sources.load("folder", tmp_path).class_names == tuple(sorted(names))
    assert folder.open_any(tmp_path, (5, 6, 1))[1] == tuple(sorted(names))
    assert caplog.text == ""


def test_any_folder_says_what_may_be_parts(tmp_path, caplog):
    write(tmp_path / "one", "train2017/cat/a.png", "val2017/cat/b.png")
    assert folder.open_any(tmp_path / "one", (5, 6, 1))[1] == ("train2017", "val2017")
    assert "they look like parts of the data: train2017, val2017. If they" in caplog.text
    caplog.clear()
    write(tmp_path / "two", "Train/cat/a.png", "TRAIN_set/dog/b.png", "test/cat/c.png")
    assert folder.open_any(tmp_path / "two", (5, 6, 1))[1] == ("cat", "dog")
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"{tmp_path / 'two'}: TRAIN_set/ and Train/ are called like the same part"
    )
