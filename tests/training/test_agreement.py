"""What processes compare before they train together, and how what differs is told."""

import pytest

from alphacl_jax.training.agreement import (
    DisagreementError,
    differing_values,
    from_first,
    require_agreement,
)


def test_what_differs_is_found_by_name_and_value():
    found = [
        {"seed": 0, "loss": "mine", "data": [1, 2]},
        {"seed": 0, "loss": "triplet", "data": [1, 2]},
        {"seed": 0, "loss": "mine", "data": [1, 2], "more": None},
    ]
    assert differing_values(found) == {"loss": {"'mine'": [0, 2], "'triplet'": [1]}}
    assert differing_values([{"a": 1}, {}]) == {"a": {"1": [0], "None": [1]}}
    assert differing_values([{"a": 1}, {"a": 1}]) == {}


def test_a_number_and_its_text_differ():
    assert differing_values([{"block_size": 8}, {"block_size": "8"}])


def test_the_message_names_values_and_processes():
    error = DisagreementError({"seed": {"0": [0, 2], "1": [1]}, "loss": {"a": [0], "b": [1, 2]}})
    assert str(error).startswith(
        "the processes of the run do not agree: seed is 0 in processes 0, 2 and 1 in process 1; "
        "loss is a in process 0 and b in processes 1, 2. Start the same command on each host, "
    )
    assert "--seed is 0 in " in error.of(lambda name: f"--{name}")


def test_of_many_differences_and_processes_some_are_named():
    many = {f"image {i}": {"x": list(range(9)), "y": [9]} for i in range(20)}
    text = str(DisagreementError(many))
    assert (
        "image 5 is x in processes 0, 1, 2, 3, 4, 5, ... (9) and y in process 9; and 14 more"
        in text
    )
    assert "image 6" not in text


def test_one_process_agrees_with_itself_without_looking():
    require_agreement(lambda: pytest.fail("looked"))
    assert from_first(lambda: {"a": 1}) == {"a": 1}
