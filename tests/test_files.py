"""Files are written whole or not at all, whatever is written."""

import json
import os
import re

import numpy as np
import pytest

from alphacl_jax.files import (
    replaced,
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


def test_files_and_folders_are_synced_to_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    write_text_atomically(tmp_path / "a.txt", "new")
    assert synced == [f"{tmp_path / 'a.txt'}.{os.getpid()}.partial", str(tmp_path)]
