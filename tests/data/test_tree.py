"""The files below a folder: hidden names, links in circles, files that count once."""

import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from alphacl_jax.data import folder, sources, tree
from alphacl_jax.errors import ArgumentError


def write(root: Path, *paths: str) -> None:
    """One image per path, its grey value the number of the path."""
    for value, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 5), value).save(root / path)


def inside(root: Path) -> list[str]:
    return [file.inside for file in tree.search(root).images]


def test_a_link_to_its_own_folder_adds_nothing(tmp_path, caplog):
    write(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "cat" / "again").symlink_to(".")
    data = sources.load("folder", tmp_path)
    assert list(data.train.source.names) == ["cat/a.png", "dog/b.png"]
    assert "1 links lead to files or folders that are read already" in caplog.text
    assert "/cat/again; each file counts once" in caplog.text


@pytest.mark.parametrize("target", ["..", "../..", "../../.."])
def test_a_link_to_a_folder_above_gives_no_image_another_class(tmp_path, target):
    write(tmp_path, "data/train/cat/a.png", "data/train/dog/b.png", "data/more/c.png")
    (tmp_path / "data" / "train" / "cat" / "up").symlink_to(target)
    source = sources.load("folder", tmp_path / "data").train.source
    assert list(source.names) == ["train/cat/a.png", "train/dog/b.png"]
    assert source.labels.tolist() == [0, 1]


def test_links_to_each_other_end(tmp_path):
    names = [f"c{number}" for number in range(12)]
    write(tmp_path, *(f"{name}/x.png" for name in names))
    for name in names:  # twelve folders, each with links to all: 12! paths
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    assert inside(tmp_path) == [f"{name}/x.png" for name in sorted(names)]


def test_links_that_lead_to_each_other_alone_are_no_folders(tmp_path):
    write(tmp_path, "a.png")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert tree.subfolders(tmp_path) == []
    assert tree.search(tmp_path).others == Counter({"no ending": 2})


def test_a_circle_outside_the_folder_ends(tmp_path):
    write(tmp_path, "store/deep/a.png", "data/b.png")
    (tmp_path / "store" / "deep" / "up").symlink_to(tmp_path / "store")
    (tmp_path / "data" / "in").symlink_to(tmp_path / "store" / "deep")
    (tmp_path / "store" / "deep" / "home").symlink_to(tmp_path / "data")
    assert inside(tmp_path / "data") == ["b.png", "in/a.png"]


def test_a_file_counts_once_by_the_name_that_is_no_link(tmp_path, caplog):
    write(tmp_path, "cat/z.png", "dog/b.png")
    (tmp_path / "cat" / "a.png").symlink_to("z.png")
    (tmp_path / "cat" / "b.png").symlink_to("../dog/b.png")
    (tmp_path / "cat" / "more").symlink_to("../dog")
    data = sources.load("folder", tmp_path)
    assert list(data.train.source.names) == ["cat/z.png", "dog/b.png"]
    assert "3 links lead to files" in caplog.text


def test_classes_may_be_links_into_a_store(tmp_path):
    write(tmp_path, "store/1.png", "store/2.png", "store/dogs/3.png")
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "one.png").symlink_to(tmp_path / "store" / "1.png")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "store" / "dogs")
    source = sources.load("folder", tmp_path / "data").train.source
    assert list(source.names) == ["cat/one.png", "dog/3.png"]


@pytest.mark.parametrize("also", ["", "bird/x.png"])
@pytest.mark.parametrize("hard", [False, True])
def test_classes_of_links_into_a_folder_beside_them_are_refused(tmp_path, caplog, also, hard):
    write(tmp_path, "all/1.png", "all/2.png", *([also] if also else []))
    for name, image in (("cat", "1.png"), ("dog", "2.png")):
        (tmp_path / name).mkdir()
        make = os.link if hard else os.symlink
        make(tmp_path / "all" / image, tmp_path / name / "a.png")
    with pytest.raises(ArgumentError, match="nothing but links to images elsewhere") as error:
        sources.load("folder", tmp_path)
    assert ": cat, dog; cat/a.png leads to all/1.png. Move what they" in str(error.value)
    assert folder.open_any(tmp_path, (5, 6, 1))[1][0] == "all"
    assert (
        "2 links lead to images that count in another folder, such as cat/a.png to all/1.png"
        in (caplog.text)
    )


def test_classes_that_are_links_to_folders_of_another_class_are_refused(tmp_path):
    write(tmp_path, "all/cats/1.png", "all/dogs/2.png", "bird/3.png")
    (tmp_path / "cat").symlink_to("all/cats")
    (tmp_path / "dog").symlink_to("all/dogs")
    with pytest.raises(ArgumentError, match=r": cat, dog; cat leads to all/cats\. Move what"):
        sources.load("folder", tmp_path)


def test_classes_of_links_to_images_beside_them_are_refused(tmp_path):
    write(tmp_path, "1.png", "2.png")
    for name, image in (("cat", "1.png"), ("dog", "2.png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").symlink_to(f"../{image}")
    with pytest.raises(ArgumentError, match=r": cat, dog; cat/a\.png leads to 1\.png\. Move"):
        sources.load("folder", tmp_path)


def test_a_second_name_of_a_class_is_no_class(tmp_path, caplog):
    write(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "kitty").symlink_to("cat")
    assert sources.load("folder", tmp_path).class_names == ("cat", "dog")
    assert "links lead to images" not in caplog.text


def test_an_image_that_two_classes_link_to_is_said(tmp_path, caplog):
    write(tmp_path, "store/1.png", "data/cat/a.png", "data/dog/b.png")
    for name in ("cat", "dog"):
        (tmp_path / "data" / name / "z.png").symlink_to(tmp_path / "store" / "1.png")
    source = sources.load("folder", tmp_path / "data").train.source
    assert list(source.names) == ["cat/a.png", "cat/z.png", "dog/b.png"]
    assert (
        "1 links lead to images that count in another folder, such as dog/z.png to cat/z.png"
        in (caplog.text)
    )


def test_a_file_with_two_names_on_the_disk_counts_once(tmp_path, caplog):
    write(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/cat/c.png", "test/dog/d.png")
    os.link(tmp_path / "train/cat/a.png", tmp_path / "train/cat/z.png")
    os.link(tmp_path / "train/dog/b.png", tmp_path / "test/dog/b.png")
    data = sources.load("folder", tmp_path)
    assert list(data.train.source.names) == ["train/cat/a.png", "train/dog/b.png"]
    assert len(data.test.source) == 3
    assert "1 links lead to files or folders that are read already" in caplog.text
    assert "1 test images are training images too" in caplog.text


def test_files_outside_of_the_parts_are_counted(tmp_path, caplog):
    write(tmp_path, *(f"{part}/{name}/a.png" for part in ("train", "test") for name in "xy"))
    write(tmp_path, "more/b.png")
    (tmp_path / "extra").mkdir()
    for name in ("photo.heic", "list.csv", "extra/1.heic", "extra/2.heic", "more/3.heic"):
        (tmp_path / name).write_bytes(b"?")
    sources.load("folder", tmp_path)
    at_the_top, beside = (record.getMessage() for record in caplog.records)
    assert at_the_top.startswith(f"{tmp_path}: 2 files are left out, since their endings")
    assert at_the_top.endswith(".csv (1), .heic (1)")
    assert beside == (
        f"{tmp_path}: train/ and test/ are read; not read are extra/ (.heic (2)), "
        "more/ (1 images, .heic (1))"
    )


def test_each_class_folder_is_searched_once(tmp_path, monkeypatch):
    parts = ("train", "test", "val", "more")
    write(tmp_path, *(f"{part}/{name}/a.png" for part in parts for name in "xy"))
    searched: Counter[str] = Counter()
    scandir = os.scandir

    def counted(path):
        searched[os.path.relpath(path, tmp_path)] += 1
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    sources.load("folder", tmp_path)
    assert {searched[f"{part}/{name}"] for part in parts for name in "xy"} == {1}


def test_hidden_names_are_hidden_at_any_depth(tmp_path):
    shown = ("cat/a.png", "cat/a@2x.png")
    write(tmp_path, *shown, "@eaDir/b.png", "cat/@eaDir/c.png", "cat/.x/d.png", "cat/@tmp.png")
    write(tmp_path, "#recycle/e.png", "__MACOSX/f.png", "cat/more/@eaDir/SYNO.png")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"?")
    (tmp_path / "cat" / "@eaDir" / "note").write_bytes(b"?")
    found = tree.search(tmp_path)
    assert [file.inside for file in found.images] == sorted(shown)
    assert not found.others
    assert tree.subfolders(tmp_path) == ["cat"]
    # The folder that is searched may be called so.
    assert inside(tmp_path / "@eaDir") == ["b.png"]


@pytest.mark.parametrize("open_", [sources.load, None])
def test_files_left_out_are_counted_by_their_ending(tmp_path, caplog, open_):
    write(tmp_path, "cat/a.png", "dog/b.png")
    for name in ("cat/1.heic", "dog/2.HEIC", "dog/3.heic", "cat/plain", "cat/4.eps", "dog/5.ico"):
        (tmp_path / name).write_bytes(b"?")
    if open_ is None:
        folder.open_any(tmp_path, (5, 6, 1))
    else:
        open_("folder", tmp_path)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: 6 files are left out, since their endings are not those of images that can "
        "be read: .heic (3), .eps (1), .ico (1), no ending (1)"
    )


COMPOSED, TWO_CHARACTERS = "caf\u00e9", "cafe\u0301"


def test_one_name_in_two_encodings_is_one_class(tmp_path):
    write(tmp_path, f"train/{COMPOSED}/a.png", "train/zoo/b.png")
    write(tmp_path, f"test/{TWO_CHARACTERS}/c.png", "test/zoo/d.png")
    data = sources.load("folder", tmp_path)
    assert data.class_names == (COMPOSED, "zoo")
    assert len(data.test.source) == 2
    write(tmp_path, f"train/{TWO_CHARACTERS}/e.png")
    if len(os.listdir(tmp_path / "train")) == 3:  # where the disk tells the two apart
        source = sources.load("folder", tmp_path).train.source
        assert source.labels.tolist() == [0, 0, 1]
        assert folder.open_any(tmp_path, (5, 6, 1))[1] == (COMPOSED, "zoo")


def test_order_and_fingerprint_do_not_depend_on_the_encoding_of_names(tmp_path):
    found = []
    for root, accent in ((tmp_path / "1", "\u00e9"), (tmp_path / "2", "e\u0301")):
        write(root, f"{accent}.png", "ez.png", "f.png")
        source = folder.open_any(root, (5, 6, 1))[0]
        found.append((source.fingerprint(), [int(one["image"][0, 0, 0]) for one in source]))
    assert found[0] == found[1]
