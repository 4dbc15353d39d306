"""Files are written whole or not at all, whatever is written."""

import errno
import json
import os
import re

import numpy as np
import pytest

from alphacl_jax.files import (
    in_words,
    replaced,
    replaced_folder,
    system_error,
    write_json_atomically,
    write_npz_atomically,
    write_text_atomically,
)


def test_text_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    write_text_atomically(path, "new α\n")
    assert path.read_bytes() == "new α\n".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    partial = f"a.txt.{os.getpid()}.partial"
    path.with_name(partial).mkdir()  # a write that fails leaves the old file
    with pytest.raises(OSError, match=re.escape(partial)):
        write_text_atomically(path, "newer\n")
    assert path.read_bytes() == "new α\n".encode()


def test_what_the_system_refuses_names_the_file_that_was_to_be_written(tmp_path):
    path = tmp_path / "gone" / "a.txt"
    with pytest.raises(FileNotFoundError) as error:
        write_text_atomically(path, "new")
    assert error.value.filename == str(path)


def test_json_reads_back(tmp_path):
    write_json_atomically(tmp_path / "a.json", {"a": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5, None]}


def test_arrays_read_back_under_the_name_that_was_given(tmp_path):
    for name in ("a.npz", "b.features"):  # NumPy would add an ending to the second
        write_npz_atomically(tmp_path / name, {"x": np.arange(3), "y": np.ones((2, 2))})
        with np.load(tmp_path / name) as found:
            assert set(found) == {"x", "y"}
            np.testing.assert_array_equal(found["x"], [0, 1, 2])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.features"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(error), replaced(path) as partial:  # noqa: PT012
        partial.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert path.read_bytes() == b"old"


@pytest.fixture
def synced(monkeypatch):
    """The paths of what is synced."""
    found: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: found.append(os.readlink(f"/proc/self/fd/{fd}")))
    return found


def test_files_and_folders_are_synced_to_the_disk(tmp_path, synced):
    write_text_atomically(tmp_path / "a.txt", "new")
    assert synced == [f"{tmp_path / 'a.txt'}.{os.getpid()}.partial", str(tmp_path)]


def test_a_folder_is_synced_with_all_that_is_in_it(tmp_path, synced):
    with replaced_folder(tmp_path / "out") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text("a")
    partial = f"{tmp_path / 'out'}.{os.getpid()}.partial"
    assert synced[:3] == [partial, f"{partial}/deep/a", f"{partial}/deep"]
    assert synced[-1] == str(tmp_path)


def test_what_the_system_says_is_a_sentence_with_the_file_and_the_room(tmp_path):
    path = tmp_path / "none" / "a.txt"
    full = OSError(errno.ENOSPC, "No space left on device", str(path))
    assert re.fullmatch(
        rf"{path}: No space left on device \([\d,]+\.\d MB are free there, 2\.5 MB are needed\)",
        in_words(full, 2_500_000),
    )
    assert "needed" not in in_words(full)
    with pytest.raises(FileNotFoundError) as error:
        path.write_text("")
    assert in_words(error.value) == f"{path}: No such file or directory"
    assert in_words(OSError("odd")) == "odd"


def test_errors_of_the_system_are_found_in_those_of_libraries(tmp_path):
    found = system_error(ValueError("... write 3 bytes [os_error_code='28']"), tmp_path)
    assert found is not None
    assert (found.errno, found.filename) == (errno.ENOSPC, str(tmp_path))
    assert system_error(ValueError("other"), tmp_path) is None
    own = OSError(errno.EACCES, "no")
    assert system_error(own, tmp_path) is own


def test_a_full_disk_names_the_file(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")

    def write():
        with replaced(tmp_path / "a.txt") as partial:
            partial.symlink_to("/dev/full")
            partial.write_text("x" * 10)

    with pytest.raises(OSError, match="No space left on device") as error:
        write()
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []
