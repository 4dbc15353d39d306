"""Place cells on the ways of real animals: fields, seeds, gaps; a sentence without the package."""

import sys

import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError, RunError
from experiments.sequences.rat_in_a_box import BOXES, place_cells


def needs_package():
    return pytest.importorskip("ratinabox", reason="ratinabox is not installed")


@pytest.mark.parametrize("trajectory", BOXES)
def test_cells_fire_in_their_fields_on_the_animals_way(trajectory, capsys):
    needs_package()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    drawn = place_cells(0, trajectory=trajectory, neurons=9, field=0.2, seconds=60)
    assert not capsys.readouterr().out
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    recordings = drawn.recordings
    assert recordings.rate == 40
    assert 60 * 40 - 40 < recordings.lengths.sum() <= 60 * 40
    assert (drawn.latents >= 0).all()
    assert (drawn.latents <= BOXES[trajectory]).all()
    np.testing.assert_allclose(recordings.context, drawn.latents, atol=1e-5)
    # Rates are the fields' of centres that the seed's first numbers are.
    centres = np.random.default_rng(0).uniform(0, BOXES[trajectory], (9, 2))
    squares = ((drawn.latents[:, None] - centres) ** 2).sum(axis=2)
    want = (0.5 + 19.5 * np.exp(-squares / (2 * 0.2**2))) * 0.025
    np.testing.assert_allclose(drawn.rates, want, rtol=1e-6)
    assert abs((recordings.signal - want).sum()) < 5 * np.sqrt(want.sum())


def test_seeds_change_cells_and_not_the_way():
    needs_package()
    one, again, other = (place_cells(seed, neurons=3, seconds=30) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.recordings.signal, again.recordings.signal)
    np.testing.assert_array_equal(one.latents, other.latents)
    assert (one.rates != other.rates).any()


def test_the_way_is_cut_where_the_camera_missed_more():
    needs_package()
    drawn = place_cells(0, neurons=1)
    assert len(drawn.recordings) == 2  # one gap of 0.36 s
    missed = 599.64 / 0.025 - drawn.recordings.lengths.sum()
    assert 13 <= missed <= 16


def test_without_the_package_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ratinabox"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ratinabox", None)
    with pytest.raises(RunError, match="Install it by: pip install ratinabox"):
        place_cells(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trajectory": "mouse"}, "trajectory=mouse must be one of sargolini, tanni"),
        ({"neurons": 0}, "neurons=0 must be a number above 0"),
        ({"field": np.nan}, "field=nan must be a number above 0"),
        ({"peak_rate": 0.5}, "peak_rate=0.5 must be a number above 0.5"),
        ({"bin_seconds": 0}, "bin_seconds=0 must be a number above 0"),
    ],
)
def test_bad_inputs(options, message):
    with pytest.raises(ArgumentError) as error:
        place_cells(0, **options)
    assert message in str(error.value)


def test_too_short_a_way():
    needs_package()
    with pytest.raises(ArgumentError, match=r"seconds=0\.01 must be two bins of 0\.025 s"):
        place_cells(0, seconds=0.01)
