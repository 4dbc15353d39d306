"""Tables with a column of times: recordings, gaps, labels, and what is refused."""

import datetime

import numpy as np
import pytest

from alphacl_jax.data.recordings import load_recordings
from alphacl_jax.errors import ArgumentError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CSV = """t,x,y,where,who,phase
0.0,1,10,0.5,A,rest
0.1,2,20,0.6,A,run
0.0,5,50,0.1,B,
0.2,3,30,0.7,A,run
0.1,6,60,0.2,B,rest
0.2,7,70,0.3,B,rest
"""
ALL = {
    "time_column": "t",
    "signal_columns": ["y", "x"],
    "context_columns": "where",
    "label_column": "phase",
    "recording_column": "who",
}
PLAIN = {"time_column": "t", "signal_columns": "x"}


def _csv(folder, text):
    path = folder / "some.csv"
    path.write_text(text)
    return path


def _check(found):
    assert found.names == ("A", "B")
    assert found.of(0).tolist() == [[10, 1], [20, 2], [30, 3]]
    assert found.of(1).tolist() == [[50, 5], [60, 6], [70, 7]]
    np.testing.assert_allclose(found.context[:, 0], [0.5, 0.6, 0.7, 0.1, 0.2, 0.3])
    assert found.moment_names == ("rest", "run")
    assert found.moment_labels.tolist() == [0, 1, 1, -1, 0, 0]
    assert found.rate == pytest.approx(10)


def test_a_csv_file(tmp_path):
    _check(load_recordings("table", _csv(tmp_path, CSV), **ALL))


def test_a_parquet_file_with_points_in_time_and_words_by_number(tmp_path):
    from pyarrow import csv

    table = csv.read_csv(_csv(tmp_path, CSV))
    start = datetime.datetime(2024, 2, 29, 23, 59, 59, 950_000)
    times = [start + datetime.timedelta(seconds=t.as_py()) for t in table.column("t")]
    table = table.set_column(0, "t", pa.array(times, pa.timestamp("ms")))
    for name in ("who", "phase"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).dictionary_encode())
    pq.write_table(table, tmp_path / "some.parquet", row_group_size=2)
    _check(load_recordings("table", tmp_path / "some.parquet", **ALL))


def test_one_recording_with_whole_numbers_for_labels(tmp_path):
    path = _csv(tmp_path, "t,x,k\n1,1,3\n2,2,\n3,3,-5\n4,4,7\n")
    found = load_recordings("table", path, **PLAIN, label_column="k")
    assert (found.names, found.lengths.tolist(), found.rate) == (("some",), [4], 1)
    assert (found.moment_labels.tolist(), found.moment_names) == ([0, -1, -1, 1], ("3", "7"))
    assert found.context.shape == (4, 0)


def test_a_gap_cuts_a_recording(tmp_path, caplog):
    times = [0, 1, 2, 3.4, 4, 5.6, 6.6, 7.6]  # a step of 1.4 is none, and one of 1.6 is a gap
    path = _csv(tmp_path, "t,x\n" + "".join(f"{t},{i}\n" for i, t in enumerate(times)))
    found = load_recordings("table", path, **PLAIN)
    assert (found.names, found.lengths.tolist()) == (("some/0", "some/1"), [5, 3])
    assert found.signal[:, 0].tolist() == list(range(8))
    assert "cut at steps of more than 1.5 times the median one: 2 and not 1" in caplog.text


def test_recordings_of_one_moment_have_no_rate(tmp_path):
    found = load_recordings("table", _csv(tmp_path, "t,x\n3,1\n"), **PLAIN)
    assert (found.rate, len(found.signal)) == (None, 1)


@pytest.mark.parametrize(
    ("text", "options", "argument", "message"),
    [
        ("t,x\n", {}, "data_dir", "has no rows"),
        ("", {}, "data_dir", "cannot be read as a table: Empty CSV file"),
        ("t,x\n1,2\n1\n", {}, "data_dir", "cannot be read as a table: .*Expected 2 columns, got 1"),
        ("a,x\n1,2\n", {}, "time_column", "t is no column of .*some.csv, which has a, x"),
        ("t,x,x\n1,2,3\n", {}, "signal_columns", "x is the name of 2 columns of"),
        ("t,x\n1,a\n", {}, "signal_columns", "x has type string in .*: it must hold numbers"),
        (
            "t,x\n1,1\n2,\n3,3\n",
            {},
            "signal_columns",
            r"missing or not finite in row 2 of .* 1 rows",
        ),
        ("t,x\n1,1\n2,inf\n", {}, "signal_columns", "x is missing or not finite in row 2"),
        ("t,x\n,1\n2,1\n", {}, "time_column", "t is missing or not finite in row 1"),
        (
            "t,x\n2024-01-01 00:00:00,1\n,2\n",
            {},
            "time_column",
            "t is missing in row 2 of",
        ),
        ("t,x\nnoon,1\n", {}, "time_column", "t has type string in"),
        (
            "t,x\n1,1\n3,2\n2,3\n",
            {},
            "time_column",
            "t is out of order in the recording 'some': 2 comes after 3, in row 3. Sort the rows",
        ),
        ("t,x\n1,1\n1,2\n", {}, "time_column", "t is out of order .*: 1 comes again, in row 2"),
        ("t,x,c\n1,1,\n", {"context_columns": ["c"]}, "context_columns", "c has type null"),
        ("t,x\n1,1\n", {"context_columns": ["c"]}, "context_columns", "c is no column"),
        ("t,x\n1,1\n", {"label_column": "c"}, "label_column", "c is no column"),
        ("t,x\n1,1\n", {"recording_column": "c"}, "recording_column", "c is no column"),
        ("t,x,c\n1,1,0.5\n", {"label_column": "c"}, "label_column", "c has type double in .*: lab"),
        ("t,x,c\n1,1,4\n2,2,\n", {"recording_column": "c"}, "recording_column", "c is missing in"),
        ("t,x\n1,1\n", {"signal_columns": []}, "signal_columns", "name no column"),
        (
            "t,x,c\n0,1,A\n1,1,A\n0,1,B\n5,1,B\n",
            {"recording_column": "c"},
            "time_column",
            "t has steps of 1 in the recording 'A' and of 5 in 'B': bring all to one step first",
        ),
    ],
)
def test_tables_that_cannot_be_used(text, options, argument, message, tmp_path):
    with pytest.raises(ArgumentError, match=message) as error:
        load_recordings("table", _csv(tmp_path, text), **{**PLAIN, **options})
    assert error.value.argument == argument


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist\. Give the \.csv or \.parquet"):
        load_recordings("table", tmp_path / "some.csv", **PLAIN)
    (tmp_path / "some.txt").write_text(CSV)
    with pytest.raises(ArgumentError, match=r"must end in \.csv or \.parquet, to say what it is"):
        load_recordings("table", tmp_path / "some.txt", **PLAIN)
    (tmp_path / "some.parquet").write_text(CSV)
    with pytest.raises(ArgumentError, match=r"some\.parquet cannot be read as a table: .*Parquet"):
        load_recordings("table", tmp_path / "some.parquet", **PLAIN)
