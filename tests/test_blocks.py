"""In blocks, value and gradient are those of the dense form, in less memory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax import blocks, tiles
from tests.cases import family, layouts, objectives, rule, views

N, DIM = 5, 3
LOSSES = {k: v for k, v in objectives().items() if not k.startswith("alpha_")}


@functools.partial(jax.jit, static_argnames=("names", "block_size", "negatives"))
def values_and_gradient(z, z_pos, names, block_size, negatives="both_views"):
    weights = np.random.default_rng(0).normal(size=len(names))

    def combined(z, z_pos):
        values = [LOSSES[n](z, z_pos, block_size=block_size, negatives=negatives) for n in names]
        return sum(w * v for w, v in zip(weights, values, strict=True)), values

    return jax.value_and_grad(combined, argnums=(0, 1), has_aux=True)(z, z_pos)


def check_blocks(names, block_sizes, negatives="both_views"):
    z, z_pos = views(0, N, DIM)
    (_, want), want_gradients = values_and_gradient(z, z_pos, names, None, negatives)
    for block_size in block_sizes:
        (_, got), gradients = values_and_gradient(z, z_pos, names, block_size, negatives)
        np.testing.assert_allclose(got, want, rtol=1e-10, err_msg=str(block_size))
        for ours, theirs in zip(gradients, want_gradients, strict=True):
            assert np.abs(theirs).min() > 0
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-11)


def test_each_kind_of_loss_and_rule_in_blocks_that_do_not_divide(x64):
    check_blocks(("info_nce", "backprop_square"), [3])


@pytest.mark.slow
def test_every_loss_and_rule_in_blocks_that_do_not_divide(x64):
    check_blocks(tuple(LOSSES), [3])


@pytest.mark.parametrize(
    ("negatives", "block_sizes"),
    [
        ("cross_view", [3]),
        pytest.param("both_views", [5, 9, 999], marks=pytest.mark.slow),
        pytest.param("same_view", [1, "auto"], marks=pytest.mark.slow),
    ],
)
def test_blocks_of_any_size(negatives, block_sizes, x64):
    check_blocks(("backprop_direct",), block_sizes, negatives)


def test_explicit_negatives_statistics_and_local_values_in_blocks(x64):
    z, z_pos = views(1, N, DIM)
    negatives = layouts(1, N, DIM)["masked"]

    @functools.partial(jax.jit, static_argnames="block_size")
    def everything(block_size):
        options = {"negatives": negatives, "block_size": block_size}
        return {
            "none": acl.contrastive_loss(z, z_pos, family("mine"), reduction="none", **options),
            "statistics": acl.statistics(z, z_pos, rule("direct"), **options),
        }

    dense, blocked = everything(None), everything(2)
    assert blocked["none"].shape == (N,)
    np.testing.assert_allclose(blocked["none"], dense["none"], rtol=1e-10)
    for name, value in dense["statistics"].items():
        np.testing.assert_allclose(blocked["statistics"][name], value, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize(
    ("name", "negatives"),
    [("inverse", "same_view"), ("square", "same_view"), ("direct", "cross_view")],
)
def test_memory_grows_with_the_block_and_not_with_the_square(name, negatives):
    """Whole rows in blocks: O(block · candidates)."""
    n, block_size = 2048, 64
    view = jax.ShapeDtypeStruct((n, 8), jnp.float32)

    def temporary_bytes(block_size):
        gradient = jax.value_and_grad(
            lambda z, z_pos: acl.alpha_cl_loss(
                z,
                z_pos,
                rule(name),
                stop_gradient=False,
                negatives=negatives,
                block_size=block_size,
            )
        )
        compiled = jax.jit(gradient).lower(view, view).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    square = 4 * n * n
    assert temporary_bytes(None) > square
    # Those of a dense form, of which a solved rule keeps ten, and a few of [block, n] beside them.
    assert temporary_bytes(block_size) < 15 * (4 * n * block_size) < square / 2


def test_automatic_size():
    resolve = blocks.resolve_block_size
    assert resolve("auto", 4096, 4096) == 4096
    size = resolve("auto", 2**16, 2**16)
    assert 1 <= size < 2**16
    assert size * 2**16 <= 2**24
    assert resolve("auto", 2**26, 2**26) == 1


@pytest.mark.parametrize(
    ("block_size", "want"), [(None, 6), (4, 4), (6, 6), (8, 6), (7, 6), (np.int64(4), 4)]
)
def test_size_in_anchors(block_size, want):
    assert blocks.resolve_block_size(block_size, 6, 8) == want


REFUSED = (0, -1, 2.0, 0.5, float("inf"), True, "all", "4", np.float32(2))


@pytest.mark.parametrize("block_size", REFUSED, ids=repr)
@pytest.mark.parametrize("function", [acl.contrastive_loss, acl.alpha_cl_loss, acl.statistics])
def test_sizes_that_are_refused(function, block_size):
    z = np.ones((3, 2), np.float32)
    chosen = rule("direct") if function is acl.alpha_cl_loss else family("mine")
    message = re.escape(f"block_size={block_size!r} must be a whole number >= 1")
    for negatives in ("both_views", "same_view", "cross_view", z):
        with pytest.raises(ValueError, match=message):
            function(z, z, chosen, negatives=negatives, block_size=block_size)


def test_side_of_tiles():
    def resolve(block_size, anchors):
        size = blocks.resolve_block_size(block_size, anchors, anchors)
        return tiles.resolve_tile(size, anchors, anchors, automatic=block_size == "auto")

    for anchors, block_size in ((4096, 16), (1000, 999), (65536, 64), (7, 1)):
        side = resolve(block_size, anchors)
        # Together the tiles at work hold no more than the rows would.
        assert 1 <= side < anchors
        assert tiles.TILES_AT_ONCE * side**2 <= max(block_size * anchors, 4)
    assert resolve(None, 10**6) is None
    assert resolve(7, 7) is resolve(8, 7) is resolve("auto", 7) is None
    assert resolve("auto", 2**16) < 2**13
