"""Tables side by side, and what is chosen and has no spread."""

from experiments.studies.report import Column, epochs_in_words, table_beside, table_of


def test_groups_stand_side_by_side_column_by_column():
    columns = (Column("a", "A"), Column("b", "B", 10, 0), Column("c", "C"))
    groups = {
        "short": {"one": [{"a": 1.0, "b": 0.5}], "two": [{"diverged": True}]},
        "long": {"one": [{"a": 2.0, "b": 0.7}], "two": [{"a": 3.0}]},
    }
    lines = table_beside(groups, columns, "name").splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["name", "A,", "short", "A,", "long", "B,", "short", "B,", "long"],
        ["one", "1.00", "2.00", "5", "7"],
        ["two", "diverged", "3.00", "diverged", "-"],
    ]


def test_what_was_chosen_is_shown_without_a_spread():
    rows = {"one": [{"a": 2.0, "b": 2.0}, {"a": 2.0, "b": 4.0}]}
    columns = (Column("a", "A", digits=0, chosen=True), Column("b", "B", digits=1))
    assert table_of(rows, columns).splitlines()[-1].split() == ["one", "2", "3.0", "±", "1.4"]


def test_epochs_in_words():
    assert [epochs_in_words(n) for n in (1, 2)] == ["1 epoch", "2 epochs"]
