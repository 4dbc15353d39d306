"""Folders of images: the layouts, what is ignored, and every complaint."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alphacl_jax.data import folder, policies, sources
from alphacl_jax.data.decoding import Decoding
from alphacl_jax.data.errors import MissingDataError, MixedSizesError
from alphacl_jax.errors import ArgumentError

LIMIT = 10**8


def _write(root: Path, *paths: str, size: tuple[int, int] = (6, 5)) -> None:
    """One image per path, its grey value the number of the path."""
    for value, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, value).save(root / path)


def _two_classes(root: Path) -> None:
    _write(root, "train/cat/a.png", "train/cat/b.png", "train/dog/c.png", "train/dog/d.bmp")


def test_class_folders_under_train_and_test(tmp_path):
    _two_classes(tmp_path)
    _write(tmp_path, "test/dog/x.png", "test/cat/y.png")
    data = sources.load("folder", tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.image_shape == (5, 6, 1)
    assert data.pretrain is data.train
    pixels, labels = sources.to_arrays(data.train, LIMIT)
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert labels.tolist() == [0, 0, 1, 1]
    assert labels.dtype == np.int32
    pixels, labels = sources.to_arrays(data.test, LIMIT)
    assert pixels[:, 0, 0, 0].tolist() == [1, 0]  # y, a cat, then x, a dog
    assert labels.tolist() == [0, 1]


def test_no_test_folder_is_fine_and_val_stands_for_it(tmp_path):
    _two_classes(tmp_path)
    assert sources.load("folder", tmp_path).test is None
    _write(tmp_path, "val/dog/x.png", "val/cat/y.png")
    assert len(sources.load("folder", tmp_path).test.source) == 2


def test_class_folders_without_train(tmp_path):
    _write(tmp_path, "cat/a.png", "dog/b.png")
    data = sources.load("folder", str(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert data.test is None


@pytest.mark.parametrize("under", ["", "train/"])
def test_flat_folder_is_unlabelled(tmp_path, under):
    _write(tmp_path, under + "b.png", under + "a.jpg")
    data = sources.load("folder", tmp_path)
    assert data.train is None
    assert data.test is None
    assert data.class_names == ()
    assert not data.pretrain.labelled
    pixels, labels = sources.to_arrays(data.pretrain, LIMIT)
    assert pixels[:, 0, 0, 0].tolist() == [1, 0]  # sorted by name
    assert labels.tolist() == [-1, -1]


def test_other_files_are_ignored_and_classes_are_searched_deep(tmp_path, caplog):
    _two_classes(tmp_path)
    _write(tmp_path, "train/cat/more/e.PNG", "train/cat/.hidden.png", "train/.cache/f.png")
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "table.h5"):
        (tmp_path / "train" / "cat" / name).write_bytes(b"?")
    data = sources.load("folder", tmp_path)
    assert data.class_names == ("cat", "dog")
    assert len(data.train.source) == 5
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "2 files are left out, since their endings are not those of images that can be read: "
        ".h5 (1), .txt (1)"
    )


def test_images_without_class_are_mentioned(tmp_path, caplog):
    _two_classes(tmp_path)
    _write(tmp_path, "train/loose.png", "train/loose2.png", "stray.png")
    assert len(sources.load("folder", tmp_path).train.source) == 4
    assert "2 images beside class folders have no class and are left out" in caplog.text
    assert "1 images beside train/ have no class" in caplog.text


def test_a_class_folder_without_images_is_mentioned(tmp_path, caplog):
    _two_classes(tmp_path)
    (tmp_path / "train" / "empty").mkdir()
    assert sources.load("folder", tmp_path).class_names == ("cat", "dog")
    assert "no images in empty, so not a class" in caplog.text


def test_mixed_sizes_need_an_image_size(tmp_path):
    _two_classes(tmp_path)
    _write(tmp_path, "train/cat/large.png", size=(9, 12))
    with pytest.raises(ValueError, match=r"differ in size: 6x5 \(4\), 9x12 \(1\)") as error:
        sources.load("folder", tmp_path)
    assert isinstance(error.value, MixedSizesError)
    assert (error.value.argument, error.value.suggested) == ("image_size", 5)
    data = sources.load("folder", tmp_path, image_size=4)
    assert data.image_shape == (4, 4, 1)
    assert sources.to_arrays(data.train, LIMIT)[0].shape == (5, 4, 4, 1)


def test_a_named_pipe_among_images_is_left_out(tmp_path, caplog):
    _two_classes(tmp_path)
    os.mkfifo(tmp_path / "train" / "cat" / "pipe.png")  # nobody writes: reading would wait
    data = sources.load("folder", tmp_path)
    assert len(sources.to_arrays(data.train, LIMIT)[0]) == 4
    assert len(list(sources.in_order(data.train, 2, 0))) == 3
    assert "train/cat/pipe.png (it is a named pipe, not a file). They are left" in caplog.text


def test_images_larger_than_allowed_are_left_out(tmp_path, caplog):
    _two_classes(tmp_path)
    Image.new("L", (600, 500)).save(tmp_path / "train" / "cat" / "large.png")
    decoding = Decoding(max_megapixels=0.2)
    data = sources.load("folder", tmp_path, image_size=4, decoding=decoding)
    assert len(sources.to_arrays(data.train, LIMIT)[0]) == 4
    assert "600x500 are 0.3 megapixels, more than max_megapixels=0.2 allows" in caplog.text


def test_damaged_images_are_left_out_and_reported_once(tmp_path, caplog):
    _two_classes(tmp_path)
    (tmp_path / "train" / "cat" / "broken.png").write_bytes(b"?")
    data = sources.load("folder", tmp_path)
    for split in (data.pretrain, data.train):
        pixels, labels = sources.to_arrays(split, LIMIT)
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert labels.tolist() == [0, 0, 1, 1]
    (record,) = caplog.records
    assert "1 of 5 images cannot be read" in record.getMessage()
    assert str(tmp_path / "train" / "cat" / "broken.png") in record.getMessage()


@pytest.mark.parametrize("image_size", [None, 4])
def test_all_images_damaged(tmp_path, image_size):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(ValueError, match=r"(no image in|2 of 2 images cannot) .*read.*"):
        sources.load("folder", tmp_path, image_size)


def test_a_missing_folder_and_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        sources.load("folder", tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="is a file"):
        sources.load("folder", tmp_path / "file")
    with pytest.raises(ValueError, match="needs data_dir"):
        sources.load("folder")


def test_a_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no images in .*: it is empty"):
        sources.load("folder", tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "x.npy").write_bytes(b"?")
    with pytest.raises(FileNotFoundError, match=r"no images in .*train: files of type .npy \(1\)"):
        sources.load("folder", tmp_path)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    _two_classes(tmp_path)
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may run as root, who may read all
    with pytest.raises(PermissionError, match=r"cannot read .*dog: Permission denied"):
        sources.load("folder", tmp_path)


def test_one_class_only(tmp_path):
    _write(tmp_path, "train/cat/a.png", "train/cat/b.png")
    with pytest.raises(ValueError, match=r"one class only, 'cat'.*data_dir=.*cat to pretrain"):
        sources.load("folder", tmp_path)


def test_test_classes_must_be_the_train_classes(tmp_path):
    _two_classes(tmp_path)
    _write(tmp_path, "test/cat/x.png", "test/cow/y.png")
    with pytest.raises(ValueError, match=r"differ from the 2 .* lacks dog and has besides cow"):
        sources.load("folder", tmp_path)


def test_a_test_folder_alone_or_empty(tmp_path):
    _write(tmp_path, "test/cat/x.png", "test/dog/y.png")
    with pytest.raises(FileNotFoundError, match="has test/ but no train/"):
        sources.load("folder", tmp_path)
    _two_classes(tmp_path)
    for path in (tmp_path / "test").rglob("*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no images in .*test: it is empty"):
        sources.load("folder", tmp_path)


def _write_colour(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 5), (200, 10, 30)).save(root / path)


@pytest.mark.parametrize("image_size", [None, 4])
def test_a_greyscale_folder_stays_one_channel_and_gets_its_policy(tmp_path, image_size):
    _two_classes(tmp_path)
    data = sources.load("folder", tmp_path, image_size)
    assert data.image_shape[2] == len(data.mean) == len(data.std) == 1
    assert sources.to_arrays(data.train, LIMIT)[0][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert policies.policy_for(data.name, data.image_shape) == policies.SIMCLR_GRAY


@pytest.mark.parametrize("image_size", [None, 4])
def test_one_colour_image_is_enough_for_colour(tmp_path, image_size):
    _two_classes(tmp_path)
    _write_colour(tmp_path, "train/dog/z.png")  # read last
    data = sources.load("folder", tmp_path, image_size)
    assert data.image_shape[2] == 3
    pixels, _ = sources.to_arrays(data.train, LIMIT)
    assert pixels[1, 0, 0].tolist() == [1, 1, 1]
    assert pixels[-1, 0, 0].tolist() == [200, 10, 30]


def test_test_images_get_the_channels_of_the_training_images(tmp_path, caplog):
    grey, colour = tmp_path / "grey", tmp_path / "colour"
    _two_classes(grey)
    _write_colour(grey, "test/cat/x.png", "test/dog/y.png")
    data = sources.load("folder", grey)
    assert data.test.source[0]["image"].shape == (5, 6, 1)
    assert data.test.source[0]["image"][0, 0].tolist() == [69]  # .299 * 200 + .587 * 10 + .114 * 30
    assert "so the colours of the test images are dropped" in caplog.text
    caplog.clear()
    _write_colour(colour, "train/cat/x.png", "train/dog/y.png")
    _write(colour, "test/cat/a.png", "test/dog/b.png")
    data = sources.load("folder", colour)
    assert data.test.source[1]["image"][0, 0].tolist() == [1, 1, 1]
    assert caplog.text == ""


def test_the_shape_of_an_encoder_is_given_to_other_images(tmp_path):
    _two_classes(tmp_path)
    _write(tmp_path, "train/cat/large.png", size=(9, 12))
    data = sources.load("folder", tmp_path, image_shape=(4, 7, 3))
    assert data.image_shape == (4, 7, 3)
    assert len(data.mean) == 3
    assert sources.to_arrays(data.train, LIMIT)[0].shape == (5, 4, 7, 3)
    # Raw pixels are compared with the channels that the files have.
    assert sources.load("folder", tmp_path, image_shape=(4, 7, None)).image_shape == (4, 7, 1)


def test_the_title_is_the_folders_name(tmp_path, monkeypatch):
    flowers = tmp_path / "flowers"
    _two_classes(flowers)
    data = sources.load("folder", flowers)
    assert (data.name, data.title) == ("folder", "flowers")
    assert sources.title_of("folder", f"{flowers}/") == "flowers"
    monkeypatch.chdir(flowers)
    assert sources.title_of("folder", ".") == "flowers"
    assert sources.title_of("folder", "/") == "folder"
    assert sources.title_of("cifar10", tmp_path) == "cifar10"
    composed, two_characters = "F\u00fcchse", "Fu\u0308chse"
    assert sources.title_of("folder", f"/data/{two_characters}") == composed


@pytest.mark.parametrize("limit", [LIMIT, 0])
def test_names_are_those_of_the_images_that_can_be_read(tmp_path, limit):
    _two_classes(tmp_path)
    _write(tmp_path, "test/cat/x.png", "test/dog/y.png")
    (tmp_path / "train/cat/aa.png").write_bytes(b"?")
    data = sources.load("folder", tmp_path)
    assert len(data.train.source.names) == 5
    chunks = list(sources.in_order_named(data.train, 2, limit))
    got = [(name, int(p[0, 0, 0]), int(n)) for c in chunks for p, n, name in zip(*c, strict=True)]
    assert got == [
        ("train/cat/a.png", 0, 0),
        ("train/cat/b.png", 1, 0),
        ("train/dog/c.png", 2, 1),
        ("train/dog/d.bmp", 3, 1),
    ]
    assert list(data.test.source.names) == ["test/cat/x.png", "test/dog/y.png"]


def test_any_folder_is_opened_whole(tmp_path):
    _write(tmp_path, "dog/deep/er/b.png", "loose.png", "cat/a.png", ".hidden/x.png")
    (tmp_path / "dog" / "notes.txt").write_text("?")
    source, class_names = folder.open_any(tmp_path, (4, 4, 3))
    assert class_names == ("cat", "dog")
    assert list(source.names) == ["cat/a.png", "dog/deep/er/b.png", "loose.png"]
    assert source.labels.tolist() == [0, 1, -1]
    assert source[0]["image"].shape == (4, 4, 3)
    assert source[2]["label"] == -1


@pytest.mark.parametrize("layout", [("test/cat/x.png", "test/dog/y.png"), ("val/dog/y.png",)])
def test_a_folder_of_parts_is_opened_whole_with_the_classes_in_them(tmp_path, layout):
    _two_classes(tmp_path)
    _write(tmp_path, *layout, "train/loose.png", "more/z.png")
    source, class_names = folder.open_any(tmp_path, (4, 4, 1))
    assert class_names == ("cat", "dog", "more")
    labels = dict(zip(source.names, source.labels.tolist(), strict=True))
    assert len(labels) == 4 + len(layout) + 2
    assert (labels["train/cat/a.png"], labels["train/dog/c.png"]) == (0, 1)
    assert (labels["train/loose.png"], labels["more/z.png"], labels[layout[-1]]) == (-1, 2, 1)


def test_any_folder_needs_one_class_at_most_but_an_image(tmp_path):
    _write(tmp_path, "cat/a.png")
    assert folder.open_any(str(tmp_path), (4, 4, 3))[1] == ("cat",)
    with pytest.raises(MissingDataError, match="nowhere does not exist"):
        folder.open_any(tmp_path / "nowhere", (4, 4, 3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match=r"no images in .*empty: it is empty") as error:
        folder.open_any(tmp_path / "empty", (4, 4, 3))
    assert error.value.argument == "data_dir"


def test_single_files_are_opened_in_their_order(tmp_path, monkeypatch):
    _write(tmp_path, "b.png", "a.png")
    monkeypatch.chdir(tmp_path)
    source = folder.open_files(["b.png", tmp_path / "a.png"], (5, 6, 1))
    split = sources.Split(source, labelled=False)
    ((pixels, labels, names),) = sources.in_order_named(split, 5, LIMIT)
    assert pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert labels.tolist() == [-1, -1]
    assert names == ["b.png", str(tmp_path / "a.png")]
    with pytest.raises(MissingDataError, match=r"paths=c\.png is no file"):
        folder.open_files(["b.png", "c.png"], (5, 6, 1))


def test_errors_of_the_folder_name_the_argument(tmp_path):
    with pytest.raises(ArgumentError) as error:
        sources.load("folder", tmp_path / "gone")
    assert isinstance(error.value, FileNotFoundError)
    assert error.value.argument == "data_dir"
    assert error.value.value == tmp_path / "gone"
    assert str(error.value).startswith(f"data_dir={tmp_path}/gone does not exist")


def test_a_fingerprint_is_of_names_and_sizes_wherever_the_folder_lies(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        root.mkdir()
        for name, size in (("a.png", 10), ("b.png", 20)):
            (root / name).write_bytes(bytes(size))
        (root / "c.png").symlink_to(tmp_path / "gone")  # as damaged as it may be

    def taken(root):
        return folder.open_any(root, (2, 2, 1))[0].fingerprint()

    before = taken(one)
    assert before == taken(other)
    (other / "b.png").write_bytes(bytes(21))
    assert taken(other) != before
    (one / "b.png").rename(one / "d.png")
    assert taken(one) != before
