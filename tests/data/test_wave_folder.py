"""Sound in folders, real files written here: classes, parts, rates, damage, labels of moments."""

import numpy as np
import pytest

from alphacl_jax.data.errors import MissingDataError, NotAFolderError
from alphacl_jax.data.moment_intervals import Interval, labels_of_moments, read_intervals
from alphacl_jax.data.recordings import load_recordings
from alphacl_jax.errors import ArgumentError

soundfile = pytest.importorskip("soundfile")

RATE = 8000


def _tone(seconds=0.01, rate=RATE, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def _write(path, samples=None, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, _tone() if samples is None else samples, rate, **options)


@pytest.fixture
def split(tmp_path):
    for part, files in (("train", ("a/1", "b/deep/2", "a/0", "c/3")), ("test", ("c/4", "b/5"))):
        for number, file in enumerate(files):
            _write(tmp_path / part / f"{file}.wav", _tone(0.01 + 0.01 * number))
    return tmp_path


def test_class_folders_of_two_parts(split):
    train, test = (load_recordings("wav", split, part=part) for part in ("train", "test"))
    assert train.names == ("train/a/0.wav", "train/a/1.wav", "train/b/deep/2.wav", "train/c/3.wav")
    assert train.class_names == test.class_names == ("a", "b", "c")
    assert train.labels.tolist() == [0, 0, 1, 2]
    assert train.lengths.tolist() == [240, 80, 160, 320]
    assert train.rate == RATE
    np.testing.assert_allclose(train.of(0)[:, 0], _tone(0.03), atol=2**-15)
    assert test.names == ("test/b/5.wav", "test/c/4.wav")
    assert test.labels.tolist() == [1, 2]  # numbered as the training part's
    assert load_recordings("wav", split).names == train.names


def test_classes_without_parts_and_none(tmp_path):
    _write(tmp_path / "x" / "1.wav")
    _write(tmp_path / "y" / "1.flac")
    _write(tmp_path / "z" / "1.ogg", _tone(1))
    _write(tmp_path / "loose.wav")
    _write(tmp_path / ".hidden" / "1.wav")
    found = load_recordings("wav", tmp_path)
    assert found.names == ("x/1.wav", "y/1.flac", "z/1.ogg", "loose.wav")
    assert (found.labels.tolist(), found.class_names) == ([0, 1, 2, -1], ("x", "y", "z"))
    flat = load_recordings("wav", tmp_path / "x")
    assert (flat.labels.tolist(), flat.class_names) == ([-1], ())
    with pytest.raises(MissingDataError, match="has no test part: no test/ or val/ with sound"):
        load_recordings("wav", tmp_path, part="test")
    with pytest.raises(ArgumentError, match="part=val must be 'train' or 'test'"):
        load_recordings("wav", tmp_path, part="val")


def test_channels_are_averaged(tmp_path):
    _write(tmp_path / "1.wav", np.stack([_tone(), np.zeros(80)], axis=1))
    np.testing.assert_allclose(
        load_recordings("wav", tmp_path).signal[:, 0], _tone() / 2, atol=2**-15
    )


@pytest.mark.parametrize("wanted", [8000, 22050, 44100])
def test_a_tone_stays_one_at_another_rate(wanted, tmp_path):
    _write(tmp_path / "1.wav", _tone(0.5, 16000), 16000, subtype="FLOAT")
    found = load_recordings("wav", tmp_path, rate=wanted)
    assert found.rate == wanted
    assert abs(len(found.signal) - wanted // 2) <= 1
    inner = slice(wanted // 20, -wanted // 20)  # where the filter sees no border
    wanted_tone = _tone(0.5, wanted)[: len(found.signal)]
    np.testing.assert_allclose(found.signal[inner, 0], wanted_tone[inner], atol=2e-3)


def test_what_a_lower_rate_cannot_hold_is_filtered_out(tmp_path):
    _write(tmp_path / "1.wav", _tone(0.5, 16000, hertz=6000), 16000, subtype="FLOAT")
    found = load_recordings("wav", tmp_path, rate=8000).signal[400:-400]
    assert np.abs(found).max() < 0.01  # an alias would be a tone of 2,000 Hz as loud as before


def test_several_rates_need_one(tmp_path):
    _write(tmp_path / "1.wav", rate=8000)
    _write(tmp_path / "2.wav", rate=16000)
    with pytest.raises(ArgumentError, match=r"8000 \(1\.wav\), 16000 \(2\.wav\)\. 8000 brings all"):
        load_recordings("wav", tmp_path)
    found = load_recordings("wav", tmp_path, rate=8000)
    assert found.lengths.tolist() == [80, 40]


@pytest.mark.parametrize("rate", [0, -8000, 8000.5, True])
def test_rates_that_are_none(rate, tmp_path):
    with pytest.raises(ArgumentError, match=f"^rate={rate} must be a whole number of samples"):
        load_recordings("wav", tmp_path, rate=rate)


def test_damaged_files_are_named_and_left_out(tmp_path, caplog):
    _write(tmp_path / "a" / "1.wav")
    (tmp_path / "a" / "2.wav").write_bytes(b"no sound at all")
    _write(tmp_path / "b" / "3.wav", np.zeros(0))
    _write(tmp_path / "b" / "4.wav", np.array([0.0, np.nan]), subtype="FLOAT")
    _write(tmp_path / "b" / "5.wav")
    (tmp_path / "b" / "6.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b" / "read.me").touch()
    found = load_recordings("wav", tmp_path)
    assert found.names == ("a/1.wav", "b/5.wav")
    assert found.labels.tolist() == [0, 1]
    assert "4 of 6 files cannot be read and are left out: a/2.wav (" in caplog.text
    assert "b/3.wav (it holds no sample)" in caplog.text
    assert "b/4.wav (it holds values that are not finite)" in caplog.text
    assert "b/6.wav (there is no such file)" in caplog.text
    assert "1 files are left out, since their endings are not those of sound" in caplog.text
    assert ".me (1)" in caplog.text


def test_a_file_that_breaks_off_is_damaged_and_a_stream_is_not(tmp_path, caplog):
    for number in range(3):
        _write(tmp_path / f"{number}.wav", _tone(0.1))
    whole = (tmp_path / "1.wav").read_bytes()
    (tmp_path / "1.wav").write_bytes(whole[:1000])
    unknown = b"\xff" * 4  # how many bytes come, where the header was written first
    (tmp_path / "2.wav").write_bytes(whole[:4] + unknown + whole[8:40] + unknown + whole[44:])
    found = load_recordings("wav", tmp_path)
    assert (found.names, found.lengths.tolist()) == (("0.wav", "2.wav"), [800, 800])
    assert "1.wav (it has 1000 of the 1644 bytes that it should have)" in caplog.text


def test_folders_without_sound(tmp_path):
    with pytest.raises(MissingDataError, match=r"gone does not exist\. Give the folder of the rec"):
        load_recordings("wav", tmp_path / "gone")
    with pytest.raises(MissingDataError, match=r"has no sound in .*: it is empty. Put .wav, .flac"):
        load_recordings("wav", tmp_path)
    (tmp_path / "1.mp3").write_bytes(b"?")
    with pytest.raises(NotAFolderError, match=r"1\.mp3 is a file\. Give the folder"):
        load_recordings("wav", tmp_path / "1.mp3")
    with pytest.raises(MissingDataError, match=r"has no sound in .*: files of type .mp3 \(1\)\."):
        load_recordings("wav", tmp_path)
    (tmp_path / "1.wav").write_bytes(b"?")
    with pytest.raises(MissingDataError, match=r"has no file that can be read as sound: 1\.wav \("):
        load_recordings("wav", tmp_path)


def test_a_folder_around_the_class_folders(tmp_path):
    _write(tmp_path / "digits" / "a" / "1.wav")
    _write(tmp_path / "digits" / "b" / "1.wav")
    inner = tmp_path / "digits"
    with pytest.raises(ArgumentError, match=f"holds one folder, which holds .*: give {inner}, who"):
        load_recordings("wav", tmp_path)
    assert load_recordings("wav", inner).class_names == ("a", "b")


def test_classes_of_the_test_part_alone(split):
    _write(split / "test" / "d" / "6.wav")
    for part in ("train", "test"):
        with pytest.raises(ArgumentError, match=r"test part that its training part lacks: d. Give"):
            load_recordings("wav", split, part=part)


def test_labels_of_moments_lie_beside_the_sound(split, caplog):
    (split / "train" / "a" / "0.csv").write_text(
        "start,end,label\n0.001,0.002,s\n0.002,0.0021,\n0.0025,0.5,ə\n"
    )
    (split / "test" / "c" / "4.csv").write_text("start,end,label\n0,0.01,t\n")
    train, test = (load_recordings("wav", split, part=part) for part in ("train", "test"))
    assert train.moment_names == test.moment_names == ("s", "t", "ə")
    wanted = np.full(train.lengths.sum(), -1)
    wanted[8:16], wanted[20:240] = 0, 2
    assert train.moment_labels.tolist() == wanted.tolist()
    wanted = np.full(test.lengths.sum(), -1)
    wanted[test.starts[1] : test.starts[1] + 80] = 1
    assert test.moment_labels.tolist() == wanted.tolist()
    assert "left out" not in caplog.text
    halved = load_recordings("wav", split, rate=RATE // 2)
    assert np.flatnonzero(halved.moment_labels == 0).tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column start and end and label in its first line, only nothing"),
        ("start,stop,label\n", "has no column end in its first line, only start, stop, label"),
        (
            "start,end,label\n0,0.001,a\n0.1,x,b\n",
            "has start='0.1' and end='x' in line 3: they must",
        ),
        ("start,end,label\n0.2,0.1,a\n", "has start='0.2' and end='0.1' in line 2"),
        ("start,end,label\n-1,0.1,a\n", "has start='-1' and end='0.1' in line 2"),
        ("start,end,label\n0\n", "has start='0' and end='' in line 2"),
        ("start,end,label\nnan,1,a\n", "has start='nan' and end='1' in line 2"),
        ("start,end,label\n0,0.005,a\n0.004,0.006,b\n", "has 'b' at 0.004 s, where another label"),
        ("start,end,label\n0.02,0.03,a\n", "has 'a' at 0.02 s, and its recording ends at 0.01 s"),
        ("start,end,label\n0,1,\xe9\n", "cannot be read as a .csv file in UTF-8"),
    ],
)
def test_labels_of_moments_that_cannot_be_used(text, message, tmp_path):
    _write(tmp_path / "1.wav")
    (tmp_path / "1.csv").write_text(text, encoding="latin-1")
    with pytest.raises(ArgumentError, match=f"^data_dir={tmp_path / '1.csv'} {message}"):
        load_recordings("wav", tmp_path)


def test_intervals_in_any_order_and_with_more_columns(tmp_path):
    path = tmp_path / "1.csv"
    path.write_text("\ufefflabel, start ,end,voice\n b ,0.5,0.75,x\na,0.0,0.5,x\n")
    intervals = read_intervals(path)
    assert intervals == [Interval(0.5, 0.75, "b"), Interval(0.0, 0.5, "a")]
    labels = labels_of_moments(intervals, ["b", "a"], 8, 8, path)
    assert (labels.dtype, labels.tolist()) == (np.int32, [1, 1, 1, 1, 0, 0, -1, -1])
