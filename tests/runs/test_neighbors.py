"""Nearest images: against a float64 sort, in any block; tables and pictures of any name."""

import numpy as np
import pytest
from PIL import Image

from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.neighbors import format_neighbors, nearest, plot_neighbors

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(23, 5)).astype(np.float32)
QUERIES = RNG.normal(size=(4, 5)).astype(np.float32)
# Mathematics, a macro, an accent apart, wide letters, a length, a newline, another encoding.
NAMES = [
    "$x_1$ & \\frac{",
    "under_score^2",
    "e\u0301te\u0301",
    "猫の写真",
    "a" * 200,
    "b\nc\t",
    "\udce9.png",
]


def by_sorting(queries, features, k):
    q, f = (np.asarray(a, np.float64) for a in (queries, features))
    q, f = (a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-300) for a in (q, f))
    cosines = q @ f.T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, axis=1)


@pytest.mark.parametrize("block", [None, 1, 4, 23, 100])
@pytest.mark.parametrize("k", [1, 7, 23])
def test_nearest_is_a_sort_by_cosine_in_any_block(block, k):
    indices, cosines = nearest(QUERIES, FEATURES, k, block=block)
    expected, values = by_sorting(QUERIES, FEATURES, k)
    assert (indices.dtype, cosines.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(cosines, values, atol=1e-6)


def test_a_query_finds_itself_and_of_equals_the_first():
    features = np.concatenate([FEATURES, FEATURES[:3]])
    indices, cosines = nearest(FEATURES[:3], features, 2, block=5)
    assert indices.tolist() == [[0, 23], [1, 24], [2, 25]]
    np.testing.assert_allclose(cosines, 1, atol=1e-6)
    assert cosines.max() <= 1


def test_scale_and_zeros():
    sizes = 10.0 ** np.linspace(-30, 37, 23, dtype=np.float32)[:, None]
    indices, cosines = nearest(1e-30 * QUERIES, FEATURES * sizes, 23)
    expected, values = by_sorting(QUERIES, FEATURES, 23)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(cosines, values, atol=1e-5)
    assert nearest(np.zeros((1, 5)), FEATURES, 3)[1].tolist() == [[0, 0, 0]]


def test_what_cannot_be_compared_is_named():
    with pytest.raises(ArgumentError, match=r"k=24 must lie between 1 and the 23 images"):
        nearest(QUERIES, FEATURES, 24)
    with pytest.raises(ArgumentError, match=r"k=0 must"):
        nearest(QUERIES, FEATURES, 0)
    with pytest.raises(ValueError, match=r"of one dimension; got shapes \(4, 4\) and \(23, 5\)"):
        nearest(QUERIES[:, :4], FEATURES, 1)
    with pytest.raises(ValueError, match="NaN or infinite"):
        nearest(QUERIES * np.inf, FEATURES, 1)


def test_table():
    table = format_neighbors(
        ["q.png", "other.png"],
        ["a.png", "dir/b.png", "c.png"],
        ["cat", "猫", "dog"],
        [[1, 0], [2, 1]],
        [[1.0, -0.25], [0.5, 0.1234]],
    )
    assert table.splitlines() == [
        "query      rank  cosine  class  image",
        "q.png         1   1.000  猫     dir/b.png",
        "              2  -0.250  cat    a.png",
        "other.png     1   0.500  dog    c.png",
        "              2   0.123  猫     dir/b.png",
    ]
    without = format_neighbors(["q"], ["a.png"], None, [[0]], [[1.0]])
    assert without.splitlines() == ["query  rank  cosine  image", "q         1   1.000  a.png"]
    strange = format_neighbors(NAMES[:1], NAMES, NAMES, [[4, 5, 6]], [[1, 1, 1]])
    assert len(strange.splitlines()) == 4
    assert "b c" in strange
    strange.encode()  # can be printed


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 9, 3), (8, 8)])
def test_picture_of_any_name(tmp_path, shape):
    images = RNG.integers(0, 256, (len(NAMES), *shape)).astype(np.uint8)
    k = len(NAMES)
    plot_neighbors(
        tmp_path / "neighbors.png",
        images[:2],
        list(images),
        NAMES[:2],
        NAMES,
        [np.arange(k), np.arange(k)[::-1]],
        np.ones((2, k)),
    )
    with Image.open(tmp_path / "neighbors.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
        assert np.std(np.asarray(picture.convert("L"))) > 10
    assert [p.name for p in tmp_path.iterdir()] == ["neighbors.png"]


def test_many_are_cut_and_only_those_that_are_drawn_are_read(tmp_path):
    seen = set()

    class Read:
        def __getitem__(self, index):
            seen.add(index)
            return np.zeros((2, 2, 1), np.uint8)

    plot_neighbors(
        tmp_path / "n.png",
        np.zeros((2, 2, 2), np.uint8),
        Read(),
        ["q"] * 2,
        [str(i) for i in range(500)],
        np.arange(2 * 100).reshape(2, 100),
        np.ones((2, 100)),
    )
    assert seen == {*range(20), *range(100, 120)}
