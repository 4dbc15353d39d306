"""Data that is away is waited for, and is no damage; damage is what reads and does not decode."""

import errno
import io
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alphacl_jax.data import batches, folder, images, outages, preview, sources
from alphacl_jax.data.contents import sample_of
from alphacl_jax.data.errors import DataAwayError
from alphacl_jax.data.images import UnreadableImage
from alphacl_jax.data.outages import Patience
from tests.data.test_batches import BATCH, IMAGES, Numbered, one_device, order_of

SHAPE = (5, 6, 3)
PASSING = [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT]
DENIED = [errno.EACCES, errno.EPERM]  # no waiting gives the right to read


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(outages, "_WAITS", (0.0, 0.001, 0.001))


@pytest.fixture
def pair(tmp_path) -> tuple[str, str]:
    """Two images that are whole, in one folder."""
    for i, name in enumerate("ab"):
        Image.new("RGB", (6, 5), (10 + i, 20, 30)).save(tmp_path / f"{name}.png")
    return str(tmp_path / "a.png"), str(tmp_path / "b.png")


def _decode(path: str) -> np.ndarray:
    return images.decode(path, SHAPE, path)


def _failing(monkeypatch, error: BaseException, times: int) -> list:
    """Has so many calls of Pillow's raise an error; returns what was opened."""
    opened, before = [], Image.open

    def open_image(file, *arguments, **options):
        opened.append(file)
        if len(opened) <= times:
            raise error
        return before(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", open_image)
    return opened


@pytest.mark.parametrize(
    "error", [*(OSError(number, os.strerror(number)) for number in PASSING), MemoryError()]
)
def test_what_passes_is_waited_for(pair, monkeypatch, caplog, error):
    opened = _failing(monkeypatch, error, 2)
    assert Patience().read(partial(_decode, pair[0]))[0, 0].tolist() == [10, 20, 30]
    assert len(opened) == 3
    away, back = (record.getMessage() for record in caplog.records)
    assert "the data cannot be read; trying again for" in away
    assert back.startswith("the data can be read again, after ")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_what_does_not_pass_ends_with_what_it_was_and_what_to_do(pair, monkeypatch, error):
    opened = _failing(monkeypatch, error, 100)
    with pytest.raises(DataAwayError, match=r"(output error|out of memory): .* no image was taken"):
        Patience().read(partial(_decode, pair[0]))
    assert len(opened) == 4
    with pytest.raises(DataAwayError, match="the same command goes on from the last checkpoint"):
        Patience().read(partial(_decode, pair[0]))


@pytest.mark.parametrize("number", DENIED)
def test_what_may_not_be_read_ends_at_once(pair, monkeypatch, caplog, number):
    opened = _failing(monkeypatch, OSError(number, os.strerror(number)), 100)
    problem = rf"^{pair[0]}: .* permitted|^{pair[0]}: Permission denied"
    with pytest.raises(DataAwayError, match=problem) as error:
        Patience().read(partial(_decode, pair[0]))
    assert "give yourself the right to read it, or move it away" in str(error.value)
    assert len(opened) == 1
    assert not caplog.records


def _error_of(path: str) -> str:
    def read():
        raise OSError(errno.EIO, "Input/output error", path)

    with pytest.raises(DataAwayError) as error:
        Patience().read(read)
    return str(error.value)


def test_one_file_that_is_never_read_while_others_are(pair):
    """As where a sector of a disk is bad, at which each resume would end."""
    assert _error_of(pair[0]).startswith(
        f"{pair[0]}: Input/output error: the data could not be read for 0 s, and no image was "
        "taken for damaged. Other files beside it are read, and it may be this one alone: restore "
        "it from a copy, or move it away, and allow changed data where a run goes on. Once it can"
    )
    Path(pair[1]).unlink()
    assert "Other files" not in _error_of(pair[0])


def test_data_is_back_once_all_that_was_away_is(caplog):
    patience, states = Patience(), []

    def one():
        """Fails, and has another read meanwhile, which does not; and then one that does."""
        states.append("")
        if len(states) == 1:
            raise OSError(errno.ESTALE, "Stale file handle", "one")
        if len(states) == 2:
            patience.read(lambda: None)
            assert len(caplog.records) == 1
            patience.read(other)
            assert len(caplog.records) == 1

    def other():
        states.append("")
        if len(states) == 3:
            raise OSError(errno.EIO, "Input/output error", "other")

    patience.read(one)
    assert len(states) == 4
    away, back = (record.getMessage() for record in caplog.records)
    assert away.startswith("one: Stale file handle: the data cannot be read; trying again for")
    assert back.startswith("the data can be read again")


def test_where_one_thread_gives_up_the_others_do_not_wait(monkeypatch):
    patience, tries = Patience(), []

    def read():
        tries.append(0)
        raise OSError(errno.EIO, "Input/output error")

    for _ in range(2):
        with pytest.raises(DataAwayError):
            patience.read(read)
    assert len(tries) == 4 + 1


def test_a_folder_that_is_away_for_a_while(pair, tmp_path):
    elsewhere, tries = tmp_path.with_name(f"{tmp_path.name}-away"), []
    tmp_path.rename(elsewhere)

    def read():
        tries.append(0)
        if len(tries) == 3:
            elsewhere.rename(tmp_path)
        return _decode(pair[0])

    assert Patience().read(read).shape == SHAPE
    assert len(tries) == 3


def test_a_drive_that_is_not_mounted_leaves_an_empty_folder(pair):
    for path in pair:
        Path(path).unlink()
    with pytest.raises(DataAwayError, match=r"a\.png: No such file"):
        Patience().read(partial(_decode, pair[0]))


def test_a_file_that_is_gone_beside_others_is_damaged(pair):
    Path(pair[0]).unlink()
    with pytest.raises(UnreadableImage, match=r"a\.png .*No such file"):
        _decode(pair[0])


def test_a_link_that_leads_nowhere_is_damaged_unless_all_do(pair, tmp_path):
    for name in ("x.png", "y.png"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere" / name)
    with pytest.raises(UnreadableImage):
        _decode(str(tmp_path / "x.png"))
    for path in pair:
        Path(path).unlink()
    with pytest.raises(FileNotFoundError):
        _decode(str(tmp_path / "x.png"))


def test_a_link_to_itself_and_a_file_that_does_not_decode_are_damaged(pair, tmp_path):
    (tmp_path / "x.png").symlink_to(tmp_path / "x.png")
    whole = Path(pair[0]).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("x.png", "cut.png"):
        with pytest.raises(UnreadableImage):
            Patience().read(partial(_decode, str(tmp_path / name)))


def test_a_disk_error_that_a_decoder_hides(pair, monkeypatch):
    """libtiff says "decoder error -2" of a disk that fails; the file does not read to its end."""
    _failing(monkeypatch, OSError("decoder error -2"), 1)

    def fails(path, mode):
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(outages, "open", fails, raising=False)
    with pytest.raises(OSError, match="Input/output error"):
        _decode(pair[0])
    monkeypatch.undo()
    _failing(monkeypatch, OSError("decoder error -2"), 2)  # of a file that is whole, said twice
    with pytest.raises(UnreadableImage, match="decoder error -2"):
        _decode(pair[0])


# What Pillow 12 says of whole files where memory is short: of any, and of JPEG and WebP.
SHORT = ["out of memory when reading image file", "broken data stream when reading image file"]


@pytest.mark.parametrize("as_path", [True, False])
@pytest.mark.parametrize("said", SHORT)
def test_a_lack_of_memory_that_a_decoder_takes_for_damage(pair, monkeypatch, said, as_path):
    monkeypatch.setattr(outages, "_SPARE", 2**62)
    _failing(monkeypatch, OSError(said), 100)
    file = pair[0] if as_path else io.BytesIO(Path(pair[0]).read_bytes())
    with pytest.raises(MemoryError, match=pair[0] if as_path else "^$"):
        images.decode(file, SHAPE, "an image")


def test_a_lack_of_memory_for_a_moment_is_no_damage(pair, monkeypatch):
    opened = _failing(monkeypatch, OSError(SHORT[1]), 1)
    for file in (pair[0], io.BytesIO(Path(pair[0]).read_bytes())):
        assert images.decode(file, SHAPE, "an image")[0, 0].tolist() == [10, 20, 30]
        assert len(opened) == 2
        opened.clear()


MEMORY_IS_SHORT = """
import resource, sys
from alphacl_jax.data import images
def size():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
for path in sys.argv[1:]:
    assert images.decode(path, (8, 8, 3), path).shape == (8, 8, 3)
    outcomes = set()
    for spare in range(0, 12_000_000, 1_000_000):
        resource.setrlimit(resource.RLIMIT_AS, (size() + spare, hard))
        try:
            images.decode(path, (8, 8, 3), path)
            outcomes.add("decoded")
        except Exception as error:
            outcomes.add(type(error).__name__)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    print(*sorted(outcomes))
"""


@pytest.mark.slow
def test_of_whole_images_none_is_damaged_while_memory_is_short(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    paths = [str(tmp_path / name) for name in ("a.jpg", "b.webp")]
    Image.fromarray(pixels).save(paths[0], progressive=True)
    Image.fromarray(pixels).save(paths[1], method=0)
    program = [sys.executable, "-c", MEMORY_IS_SHORT, *paths]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    for outcomes in done.stdout.splitlines():
        assert "MemoryError" in outcomes
        assert set(outcomes.split()) <= {"MemoryError", "decoded"}


def test_headers_of_what_is_away_are_waited_for_and_not_passed_over(pair, tmp_path, monkeypatch):
    Image.new("L", (6, 5)).save(pair[1])
    for look, found in ((images.all_grey, False), (lambda p: images.common_size(p, "x"), (5, 6))):
        with monkeypatch.context() as patched:
            _failing(patched, OSError(errno.EMFILE, "Too many open files"), 2)
            assert look(list(pair)) == found


def test_sizes_of_what_is_away_are_waited_for(pair, tmp_path, monkeypatch):
    before = folder.open_any(tmp_path, SHAPE)[0].fingerprint()
    calls, getsize = [], os.path.getsize

    def size(path):
        calls.append(path)
        if len(calls) < 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        return getsize(path)

    monkeypatch.setattr(os.path, "getsize", size)
    assert folder.open_any(tmp_path, SHAPE)[0].fingerprint() == before


class _Away(Numbered):
    """Some reads fail, of all images alike."""

    def __init__(self, failing: range, damaged: tuple[int, ...] = ()) -> None:
        super().__init__(damaged)
        self.failing, self.reads = failing, 0

    def __getitem__(self, index):
        self.reads += 1
        if self.reads - 1 in self.failing:
            raise OSError(errno.ESTALE, "Stale file handle")
        return super().__getitem__(index)


def _stream(source) -> batches.Batches:
    return batches.streamed_batches(source, BATCH, one_device(), seed=0)


def test_a_stream_goes_on_after_an_outage_with_the_same_images(caplog):
    expected = order_of(_stream(Numbered()), 6)
    iterator = _stream(_Away(range(10, 13)))
    assert order_of(iterator, 6) == expected
    assert iterator.damage_since(6) == ""
    assert not [r for r in caplog.records if "stands in" in r.getMessage()]


def test_a_stream_ends_where_an_outage_does_not():
    iterator = _stream(_Away(range(10, 10**9)))
    with pytest.raises(DataAwayError, match="Stale file handle: the data could not be read"):
        order_of(iterator, 6)


def test_decoding_of_all_and_looking_at_some_wait_too():
    def split():
        return sources.Split(_Away(range(3, 5)), labelled=True)

    assert len(sources.to_arrays(split(), 10**6)[0]) == IMAGES
    assert len(preview.choose_images(split(), 6, 3)[0]) == 6
    assert len(sample_of(split().source)) == IMAGES
    away = sources.Split(_Away(range(3, 10**9)), labelled=True)
    with pytest.raises(DataAwayError):
        sources.to_arrays(away, 10**6)


def test_damage_is_told_with_the_record_that_comes_after_it(caplog):
    iterator = _stream(Numbered(damaged=(3, 4, 20)))
    order_of(iterator, 3 * (IMAGES // BATCH))
    told = iterator.damage_since(12)
    assert told.startswith("step 12: 3 of 37 images are damaged, the first found at 20")
    for i in (3, 4, 20):
        assert f"image {i} (broken)" in told
    assert iterator.damage_since(16) == ""


def test_a_sample_shows_which_images_differ():
    one, other = sample_of(Numbered()), sample_of(Numbered(damaged=(7,)))
    assert list(one) == [f"image {i}" for i in range(IMAGES)]
    assert [name for name in one if one[name] != other[name]] == ["image 7"]
    assert other["image 7"] == "damaged"
    assert list(sample_of(Numbered(), 3)) == ["image 0", "image 18", "image 36"]
