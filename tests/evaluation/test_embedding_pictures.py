"""Pictures of embeddings and of trainings: what is drawn, colours that can be told, bad inputs."""

import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation import embedding_pictures
from alphacl_jax.evaluation.embedding_pictures import (
    cyclic_colours,
    plot_embeddings,
    plot_training,
)
from alphacl_jax.evaluation.pictures import COLOURS
from tests.evaluation.test_pictures import assert_picture, saved_figures

RNG = np.random.default_rng(0)
ANGLE = RNG.uniform(-7, 7, 300)
CIRCLE = np.column_stack([np.cos(ANGLE), np.sin(ANGLE)])


@pytest.fixture
def figures(monkeypatch):
    return saved_figures(monkeypatch, embedding_pictures)


def test_embeddings_in_two_and_three_dimensions_on_one_scale(tmp_path, figures):
    path = tmp_path / "new" / "embeddings.png"
    sphere = np.column_stack([CIRCLE, ANGLE / 10])
    flat = 3 * np.arange(5000.0)[:, None] * [1, 0]
    plot_embeddings(
        path,
        {"one": (CIRCLE, ANGLE), "two": (sphere, ANGLE + 50), "many": (flat, np.zeros(5000))},
        label="position, cm",
    )
    assert_picture(path)
    one, two, many, bar = figures[0].axes
    assert [ax.get_title() for ax in (one, two, many)] == ["one", "two", "many"]
    assert [ax.name for ax in (one, two, many)] == ["rectilinear", "3d", "rectilinear"]
    np.testing.assert_allclose(one.collections[0].get_offsets(), CIRCLE, atol=1e-6)
    np.testing.assert_allclose(one.collections[0].get_array(), ANGLE)
    limits = {ax.collections[0].get_clim() for ax in (one, two, many)}
    assert limits == {(ANGLE.min(), ANGLE.max() + 50)}
    assert bar.get_ylabel() == "position, cm"
    shown = many.collections[0].get_offsets()
    assert len(shown) == 4000
    assert (shown[0, 0], shown[-1, 0]) == (0, 3 * 4999)
    # A cube with the points in it.
    sides = np.ptp([two.get_xlim(), two.get_ylim(), two.get_zlim()], axis=1)
    np.testing.assert_allclose(sides, sides[0])


def test_a_context_that_comes_round_again_has_one_colour_there(tmp_path, figures):
    plot_embeddings(tmp_path / "ring.png", {"z": (CIRCLE, ANGLE)}, period=2 * np.pi)
    (points,) = figures[0].axes[0].collections
    np.testing.assert_allclose(points.get_array(), ANGLE % (2 * np.pi))
    assert points.get_clim() == (0, 2 * np.pi)
    colours = points.get_cmap()
    assert np.abs(np.subtract(colours(0.0), colours(1.0))).max() < 0.02


def test_cyclic_colours_are_seen_on_white_and_told_apart_without_red_or_green():
    colours = cyclic_colours()(np.linspace(0, 1, 256))[:, :3]
    assert (colours @ [0.2126, 0.7152, 0.0722]).max() <= 0.72 + 1e-6
    # What is as light on the way there as on the way back differs in blue, or in lightness.
    quarters = colours[[0, 64, 128, 192]]
    yellow_blue = np.column_stack([quarters @ [0.3, 0.6, 0.1], quarters[:, 2]])
    apart = np.abs(yellow_blue[:, None] - yellow_blue).max(axis=2)
    assert apart[~np.eye(4, dtype=bool)].min() > 0.15


@pytest.mark.parametrize("dim", [2, 3])
def test_classes_have_colours_markers_and_a_legend(tmp_path, figures, dim):
    z = RNG.normal(size=(90, dim))
    y = np.arange(90) % 3
    y[y == 2] = 0  # a class without a point keeps its place
    names = ["down", "up_$", "_rest"]
    plot_embeddings(tmp_path / "c.png", {"z": (z, y)}, label="direction", class_names=names)
    assert_picture(tmp_path / "c.png")
    (ax,) = figures[0].axes
    assert len(ax.collections) == 2
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()] == names
    assert legend.get_title().get_text() == "direction"
    first = ax.collections[0].get_facecolor()[0]
    np.testing.assert_allclose(first[:3] * 255, [0x3F, 0x90, 0xDA], atol=1)
    assert COLOURS[0] == "#3f90da"


@pytest.mark.parametrize("runs", [1, 2])
def test_training_shows_each_quantity_of_each_run(tmp_path, figures, runs):
    loss = np.arange(1000.0)[::-1]
    curves = {"loss": loss, "temperature": [[5, 0.1], [10, 0.2]]}
    plot_training(tmp_path / "t.png", {f"seed {i}": curves for i in range(runs)})
    assert_picture(tmp_path / "t.png")
    left, right = figures[0].axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("loss", "temperature")
    assert left.get_xlabel() == "iteration"
    # One run has its whole curve behind its means, of five values each.
    assert len(left.lines) == 2
    assert len(left.lines[0].get_xdata()) == (1000 if runs == 1 else 200)
    means = left.lines[-1].get_xydata()
    fives = 5 * np.arange(200)
    np.testing.assert_allclose(means, np.column_stack([3 + fives, 997 - fives]))
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[5, 0.1], [10, 0.2]])
    assert right.lines[0].get_marker() == "o"
    assert (left.get_legend() is None) == (runs == 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: plot_embeddings(path, {}), "embeddings={} hold nothing to plot"),
        (
            lambda path: plot_embeddings(path, {"a": (np.ones((9, 4)), np.ones(9))}),
            "of 'a' must be [n, 2] or [n, 3]",
        ),
        (
            lambda path: plot_embeddings(path, {"a": (np.ones((9, 2)), np.ones(8))}),
            "embeddings=<array of shape (8,)> of 'a' must be the context [9]",
        ),
        (
            lambda path: plot_embeddings(path, {"a": (CIRCLE, ANGLE)}, period=-1),
            "period=-1 must be a number above 0, or None",
        ),
        (
            lambda path: plot_embeddings(path, {"a": (CIRCLE, ANGLE)}, period=1, class_names=["a"]),
            "period=1 is of a number, and class_names makes it a class",
        ),
        (lambda path: plot_training(path, {}), "have no curve to plot"),
        (
            lambda path: plot_training(path, {"a": {"loss": np.ones((3, 3))}}),
            "runs=<array of shape (3, 3)> of 'loss' of 'a' must be [iterations]",
        ),
    ],
)
def test_bad_inputs(tmp_path, call, message):
    with pytest.raises(ArgumentError) as error:
        call(tmp_path / "none.png")
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_and_classes_without_a_name(tmp_path):
    with pytest.raises(ValueError, match="1 of the 300 values in the context of 'a' are NaN"):
        plot_embeddings(
            tmp_path / "x", {"a": (CIRCLE, np.where(ANGLE.max() == ANGLE, np.nan, ANGLE))}
        )
    with pytest.raises(ValueError, match="the context of 'a' must lie in"):
        plot_embeddings(tmp_path / "x", {"a": (CIRCLE, np.full(300, 5))}, class_names=["b", "c"])
