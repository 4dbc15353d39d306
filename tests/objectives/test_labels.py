"""Losses with labels: the formulas, blocks, devices, views, edge cases, and their α."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax import objectives
from tests.objectives import loops

N, DIM = 12, 3
LABELS = np.array([0, 1, 2, 0, 1, -1, 0, -1, 5, 1, 0, 2])
TAU, MARGIN = 0.3, 0.4
# name: (loss(z, labels, **options), of_distances(d, labels), oracle(d, labels))
LOSSES = {
    **{
        f"supcon_{variant}": (
            functools.partial(objectives.supcon_loss, temperature=TAU, variant=variant),
            functools.partial(objectives.supcon_of_distances, temperature=TAU, variant=variant),
            functools.partial(loops.supcon, tau=TAU, variant=variant),
        )
        for variant in ("out", "in")
    },
    **{
        f"nca_{variant}": (
            functools.partial(objectives.nca_loss, variant=variant),
            functools.partial(objectives.nca_of_distances, variant=variant),
            functools.partial(loops.nca, variant=variant),
        )
        for variant in ("log", "probability")
    },
    "margin": (
        functools.partial(objectives.margin_loss, margin=MARGIN),
        functools.partial(objectives.margin_of_distances, margin=MARGIN),
        functools.partial(loops.margin, least=MARGIN),
    ),
    **{
        f"triplet_{mining}": (
            functools.partial(objectives.triplet_loss, margin=MARGIN, mining=mining),
            functools.partial(objectives.triplet_of_distances, margin=MARGIN, mining=mining),
            functools.partial(loops.triplet, least=MARGIN, mining=mining),
        )
        for mining in ("all", "hard", "semihard")
    },
}
names = pytest.mark.parametrize("name", LOSSES)
ONE_OF_EACH = ("supcon_out", "nca_log", "margin", "triplet_semihard")


def embeddings(seed=0, n=N, dtype=np.float64):
    z = np.random.default_rng(seed).normal(size=(n, DIM))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(dtype)


def counted(labels, values, name):
    """Which anchors are in the mean."""
    found = []
    for i in range(len(labels)):
        same, other = loops.parts(labels, i)
        some = bool(same) and (bool(other) or not name.startswith("triplet"))
        found.append(bool(same + other) if name == "margin" else some)
    if name == "triplet_semihard":
        return values != 0
    return np.array(found)


@names
def test_value_as_the_loops(name, x64):
    loss, of_distances, oracle = LOSSES[name]
    z = embeddings()
    want = oracle(loops.half_distances(z), LABELS)
    np.testing.assert_allclose(loss(z, LABELS, reduction="none"), want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(loss(z, LABELS, reduction="sum"), want.sum(), rtol=1e-10)
    mean = want[counted(LABELS, want, name)].mean()
    np.testing.assert_allclose(loss(z, LABELS), mean, rtol=1e-10)
    d = loops.half_distances(z)
    np.testing.assert_allclose(of_distances(d, LABELS), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ONE_OF_EACH else pytest.mark.slow) for name in LOSSES],
)
def test_blocks_and_devices_have_the_value_and_the_gradient_of_the_whole(name, x64):
    loss = LOSSES[name][0]
    z = embeddings(1)
    plain, gradient = jax.value_and_grad(loss)(z, LABELS)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-3

    @functools.partial(jax.jit, static_argnums=1)
    @functools.partial(jax.value_and_grad)
    def spread(z, block_size):
        split = lambda x: x.reshape(4, -1, *x.shape[1:])  # noqa: E731
        own = functools.partial(loss, block_size=block_size, axis_name="batch")
        return jax.vmap(own, axis_name="batch")(split(z), split(jnp.asarray(LABELS)))[2]

    in_blocks = jax.jit(jax.value_and_grad(functools.partial(loss, block_size=5)))(z, LABELS)
    for value, by_z in (in_blocks, spread(z, None), spread(z, 2)):
        np.testing.assert_allclose(value, plain, rtol=1e-10)
        np.testing.assert_allclose(by_z, gradient, rtol=1e-8, atol=1e-10)


@names
def test_views_of_a_sample_are_of_its_class_even_where_nobody_knows_it(name, x64):
    loss, _, oracle = LOSSES[name]
    z = np.stack([embeddings(2), embeddings(3), embeddings(4)], axis=1)
    # One class for all views of a sample, also where the label is unknown.
    own = np.where(LABELS < 0, 100 + np.arange(N), LABELS)
    want = oracle(loops.half_distances(z.reshape(-1, DIM)), np.repeat(own, 3))
    found = loss(z, LABELS, reduction="none")
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-12)


EDGES = {
    "one class": np.zeros(N, int),
    "all unknown": np.full(N, -1),
    "each alone": np.arange(N),
}


@names
@pytest.mark.parametrize("edge", EDGES)
def test_edges_are_finite(name, edge):
    loss = LOSSES[name][0]
    for z in (embeddings(dtype=np.float32), np.ones((N, DIM), np.float32), 0 * embeddings()):
        value, gradient = jax.value_and_grad(loss)(jnp.asarray(z, jnp.float32), EDGES[edge])
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    if edge != "one class" and name != "margin":
        assert value == 0
        assert not gradient.any()


@names
def test_the_gradient_is_that_of_an_energy_with_signed_weights(name, x64):
    """∇L = −½∇tr C_{sg(α)}: what tells losses apart is α alone."""
    loss, of_distances, _ = LOSSES[name]
    z = jnp.asarray(embeddings(5))
    of_distances = functools.partial(of_distances, labels=LABELS)
    alpha = objectives.importance_of(of_distances)(acl.squared_distances(z))
    gradient = jax.grad(lambda z: loss(z, LABELS, reduction="sum"))(z)

    def energy(z):  # tr C_α = Σ α_ij ‖z_i − z_j‖²
        return jnp.sum(alpha * 2 * acl.squared_distances(z))

    np.testing.assert_allclose(gradient, -0.5 * jax.grad(energy)(z), rtol=1e-9, atol=1e-12)
    same = np.array(loops.classes(LABELS))
    together = same[:, None] == same[None, :]
    off_diagonal = ~np.eye(N, dtype=bool)
    if name == "supcon_out":  # a positive that takes more than its share is pushed
        shares = np.exp(-loops.half_distances(np.asarray(z)) / TAU) * off_diagonal
        shares /= shares.sum(axis=1, keepdims=True)
        positives = together & off_diagonal
        count = positives.sum(axis=1, keepdims=True)
        want = (shares - positives / np.maximum(count, 1)) / TAU * (count > 0)
        np.testing.assert_allclose(alpha, want, rtol=1e-8, atol=1e-12)
    else:
        assert (np.asarray(alpha)[together & off_diagonal] <= 1e-12).all()
    assert (np.asarray(alpha)[~together] >= -1e-12).all()


@pytest.mark.parametrize("variant", ["out", "in"])
def test_positives_by_a_mask(variant, x64):
    z, classes = jnp.asarray(embeddings(6)), np.array(loops.classes(LABELS))
    mask = classes[:, None] == classes[None, :]
    masked = functools.partial(objectives.multi_positive_loss, temperature=TAU, variant=variant)
    plain = functools.partial(objectives.supcon_loss, temperature=TAU, variant=variant)
    np.testing.assert_allclose(masked(z, mask), plain(z, LABELS), rtol=1e-12)
    # One way only, in blocks and over devices.
    rng = np.random.default_rng(7)
    mask = rng.random((N, N)) < 0.3
    value = masked(z, mask, reduction="sum")
    wanted = 0.0
    d = loops.half_distances(np.asarray(z))
    for i in range(N):
        others = [j for j in range(N) if j != i]
        same = [j for j in others if mask[i, j]]
        shares = np.exp(-d[i, same] / TAU) / np.exp(-d[i, others] / TAU).sum()
        if same:
            wanted += -np.log(shares).mean() if variant == "out" else -np.log(shares.mean())
    np.testing.assert_allclose(value, wanted, rtol=1e-10)
    split = lambda x: jnp.asarray(x).reshape(4, -1, *x.shape[1:])  # noqa: E731
    spread = jax.vmap(
        functools.partial(masked, reduction="sum", block_size=2, axis_name="batch"),
        axis_name="batch",
    )(split(z), split(mask))
    np.testing.assert_allclose(spread, wanted, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda z: objectives.supcon_loss(z, LABELS[:2]), AssertionError, "labels has shape"),
        (lambda z: objectives.supcon_loss(z[0], LABELS), AssertionError, r"\[n, views, dim\]"),
        (lambda z: objectives.supcon_loss(z, LABELS, 0.0), ValueError, "temperature=0 is out"),
        (lambda z: objectives.supcon_loss(z, LABELS, variant="on"), ValueError, "one of out, in"),
        (lambda z: objectives.nca_loss(z, LABELS, variant="out"), ValueError, "one of log, prob"),
        (lambda z: objectives.margin_loss(z, LABELS, -1.0), ValueError, "margin=-1 is out of"),
        (
            lambda z: objectives.triplet_loss(z, LABELS, 1.0, mining="easy"),
            ValueError,
            "mining='easy' must be one of all, hard, semihard",
        ),
        (lambda z: objectives.supcon_of_distances(z, LABELS), AssertionError, r"\[m, m\]"),
        (lambda z: objectives.multi_positive_loss(z, z > 0), AssertionError, r"not \[m, cand"),
        (lambda z: objectives.supcon_loss(z, LABELS, reduction="all"), ValueError, "reduction="),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(embeddings(dtype=np.float32))
