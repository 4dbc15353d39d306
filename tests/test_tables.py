"""Aligned tables."""

import pytest

from alphacl_jax.tables import align


def test_the_first_column_is_to_the_left_and_the_others_to_the_right():
    assert align([["what", "ms"], ["a", "1.0"], ["longer", "100.0"]]).split("\n") == [
        "what       ms",
        "a         1.0",
        "longer  100.0",
    ]


def test_an_empty_cell_leaves_no_spaces_at_the_end():
    assert align([["a", "b"], ["c", ""]]) == "a  b\nc"
    assert align([]) == ""


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        align([["a", "b"], ["c"]])
