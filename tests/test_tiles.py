"""Tiles of pairs, each pair visited once: value and gradient are those of the dense form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import alphacl_jax as acl
from alphacl_jax import (
    distances,
    layouts,
    pair_sums,
    sums,
    tiles,
)
from tests import bounds
from tests.cases import FAMILIES, RULES, family, rule, smooth_family, views

AS_USERS_COMPILE = True

DIM = 3


def exponential_family():
    """A user's own family in the log domain, whose log ψ is not affine."""

    def log_psi(x):
        return x + 0.5 * jnp.tanh(2 * x)

    return acl.Family(
        phi=jnp.log1p,
        psi=lambda x: jnp.exp(log_psi(x)),
        phi_of_log=jax.nn.softplus,
        log_psi=log_psi,
    )


def cube_root():
    """A user's own ψ with an infinite slope at 0."""
    return acl.Family(phi=lambda x: x, psi=jnp.cbrt)


def tiled_losses():
    """name -> (a Family or a Rule, stop_gradient): all that is a sum over pairs."""
    table = {name: (family(name), None) for name in FAMILIES}
    table |= {"user": (smooth_family(), None), "user_log": (exponential_family(), None)}
    rules = {n: rule(n) for n in ("direct", "entropy", "uniform", "reference_inverse")}
    rules["small_power"] = acl.rules.direct(0.5, 1.3)
    rules["of_log_family"] = acl.rules.from_family(family("lifted_structured"))
    rules["of_user_log_family"] = acl.rules.from_family(exponential_family())
    rules["of_family"] = acl.rules.from_family(family("sigmoid"))
    for name, chosen in rules.items():
        table[f"alpha_{name}"] = (chosen, True)
        table[f"backprop_{name}"] = (chosen, False)
    return table


LOSSES = tiled_losses()
# One of each kind: log domain, (φ, ψ) as given, a log ψ that is not affine, a softmax, and the
# importance of a loss in the log domain and out of it.
KINDS = (
    "info_nce",
    "user",
    "user_log",
    "backprop_direct",
    "alpha_of_log_family",
    "backprop_of_family",
)


def public(name, z, z_pos, **options):
    chosen, stop_gradient = LOSSES[name]
    if stop_gradient is None:
        return acl.contrastive_loss(z, z_pos, chosen, **options)
    return acl.alpha_cl_loss(z, z_pos, chosen, stop_gradient=stop_gradient, **options)


def tiled(name, z, z_pos, negatives, tile):
    """The losses of the anchors, in tiles of that side whatever is fast."""
    chosen, stop_gradient = LOSSES[name]
    pairs = layouts.make_pairs(z, z_pos, negatives)
    if stop_gradient is None:
        parts = sums.family_sums(chosen)
    else:
        parts = sums.rule_sums(chosen, stop_gradient)
    d_pos = distances.paired_squared_distances(pairs.anchors, pairs.positives)
    return tiles.tiled_values(parts, pairs.anchors, d_pos, pairs.views, tile)


def gradients_of(function, names, z, z_pos):
    """name -> (the anchors' losses, gradients of a random combination of them), one compilation."""
    anchors = jax.eval_shape(lambda: function(names[0], z, z_pos)).shape[0]
    weights = np.random.default_rng(1).normal(size=anchors)

    def one(name):
        def combined(z, z_pos):
            values = function(name, z, z_pos)
            return jnp.dot(values, weights), values

        return jax.value_and_grad(combined, argnums=(0, 1), has_aux=True)

    out = jax.jit(lambda z, z_pos: {n: one(n)(z, z_pos) for n in names})(z, z_pos)
    return {name: (values, gradients) for name, ((_, values), gradients) in out.items()}


def check_equal(got, want):
    for name, (values, gradients) in want.items():
        np.testing.assert_allclose(got[name][0], values, rtol=1e-10, atol=1e-12, err_msg=name)
        for ours, theirs in zip(got[name][1], gradients, strict=True):
            assert np.abs(theirs).max() > 0, name
            np.testing.assert_allclose(
                ours, theirs, rtol=1e-10, atol=1e-11 * np.abs(theirs).max(), err_msg=name
            )


def check_tiles(names, negatives, n, sides):
    z, z_pos = views(0, n, DIM)
    dense = functools.partial(public, negatives=negatives, reduction="none")
    want = gradients_of(dense, names, z, z_pos)
    for side in sides:
        blocked = functools.partial(tiled, negatives=negatives, tile=side)
        check_equal(gradients_of(blocked, names, z, z_pos), want)


@pytest.fixture(params=["kept", "again"])
def few_tiles(request, monkeypatch):
    """Whether few tiles keep their distances for the backward pass, or compute them again."""
    if request.param == "again":
        monkeypatch.setattr(pair_sums, "_KEPT_BLOCKS", 0)
    return request.param


def test_few_tiles_keep_their_distances(few_tiles):
    """Those of three tiles, and room for one that does not exist."""
    z = jnp.asarray(views(0, 7, DIM)[0])
    value = functools.partial(tiled, "info_nce", negatives="both_views", tile=8)
    _, pull = jax.vjp(lambda z: value(z, z), z)
    kept = [leaf for leaf in jax.tree.leaves(pull) if leaf.ndim == 3 and leaf.shape[1:] == (8, 8)]
    assert [len(leaf) for leaf in kept] == ([4] if few_tiles == "kept" else [])


# Two blocks, the last of them filled up.
@pytest.mark.parametrize(
    "names", [("info_nce", "backprop_direct"), pytest.param(KINDS, marks=pytest.mark.slow)]
)
def test_losses_in_tiles(names, few_tiles, x64):
    check_tiles(names, "both_views", 7, [8])


# Five blocks: neither they nor their pairs come in whole groups. The last one is filled up (both
# views), or full (same view).
@pytest.mark.slow
@pytest.mark.parametrize(("negatives", "n", "side"), [("both_views", 9, 4), ("same_view", 10, 2)])
def test_each_kind_of_loss_in_many_tiles(negatives, n, side, x64):
    names = ("info_nce",) if negatives == "both_views" else ("backprop_direct",)
    check_tiles(names, negatives, n, [side])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("negatives", "n", "sides"),
    [("both_views", 9, [1, 5, 9, 99]), ("same_view", 10, [1, 3, 4, 99])],
)
def test_every_loss_in_tiles_of_any_size(negatives, n, sides, x64):
    check_tiles(tuple(LOSSES), negatives, n, sides)


def check_block_sizes(names, negatives, n, block_sizes):
    z, z_pos = views(2, n, DIM)
    options = {"negatives": negatives, "reduction": "none"}
    want = gradients_of(functools.partial(public, **options), names, z, z_pos)
    for block_size in block_sizes:
        function = functools.partial(public, block_size=block_size, **options)
        check_equal(gradients_of(function, names, z, z_pos), want)


@pytest.mark.slow
def test_block_sizes_of_the_losses(x64):
    check_block_sizes(("user",), "both_views", 5, [1])
    check_block_sizes(("alpha_of_log_family",), "same_view", 9, [3])


@pytest.mark.slow
@pytest.mark.parametrize("negatives", ["both_views", "same_view"])
def test_every_block_size_of_the_losses(negatives, x64):
    check_block_sizes(KINDS, negatives, 13, [1, 2, 3, 5, 13, 999, "auto"])


@pytest.mark.slow
@pytest.mark.parametrize("equal_views", [False, True])
def test_infinite_slope_at_zero(equal_views, x64, monkeypatch):
    """ψ = ∛: finite where no real pair has d_i² = d_ij², whatever fills the tiles up."""
    monkeypatch.setitem(LOSSES, "cube_root", (cube_root(), None))
    z, z_pos = views(3, 5, DIM)
    z_pos = z.copy() if equal_views else z_pos
    # A positive distance that is 0 has no finite derivative at pairs of the same distance only.
    for negatives, side in (("same_view", 2), ("both_views", 4)):
        dense = functools.partial(public, negatives=negatives, reduction="none")
        blocked = functools.partial(tiled, negatives=negatives, tile=side)
        want = gradients_of(dense, ("cube_root",), z, z_pos)
        got = gradients_of(blocked, ("cube_root",), z, z_pos)
        for name, (values, gradients) in want.items():
            np.testing.assert_allclose(got[name][0], values, rtol=1e-10)
            for ours, theirs in zip(got[name][1], gradients, strict=True):
                assert np.isfinite(theirs).all()
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_psi_is_asked_for_real_pairs_only(x64, monkeypatch):
    """A ψ that is defined where the differences of the batch lie, and no farther."""
    narrow = acl.Family(phi=lambda x: x, psi=lambda x: jnp.log(x + 0.5))
    monkeypatch.setitem(LOSSES, "narrow", (narrow, None))
    z, z_pos = (0.1 * v for v in views(4, 3, DIM))
    want = gradients_of(
        functools.partial(public, negatives="same_view", reduction="none"), ("narrow",), z, z_pos
    )
    blocked = functools.partial(tiled, negatives="same_view", tile=2)
    check_equal(gradients_of(blocked, ("narrow",), z, z_pos), want)


# --- temperatures and scales ---


def at_temperature(name, tau):
    """The loss with that temperature as a traced value."""
    parameters = {**FAMILIES, **RULES}[name]
    make = family if name in FAMILIES else rule
    return make(name, *((tau, *parameters[1:]) if name not in UNTEMPERED else parameters))


UNTEMPERED = ("mine", "lifted_structured", "sigmoid", "uniform")
TEMPERED = ("info_nce", "soft_triplet", "direct", "entropy", "reference_inverse")
AT_TEMPERATURE = (*TEMPERED, "mine", "lifted_structured", "sigmoid")


def loss_at(name, z, z_pos, tau, **options):
    chosen = at_temperature(name, tau)
    if isinstance(chosen, acl.Family):
        return acl.contrastive_loss(z, z_pos, chosen, **options)
    return acl.alpha_cl_loss(z, z_pos, chosen, stop_gradient=False, **options)


def _at_temperatures(z, z_pos, tau, names, block_size, negatives="both_views"):
    """name -> (loss, its gradient by z, z_pos and τ)."""
    return {
        name: jax.value_and_grad(
            functools.partial(loss_at, name, block_size=block_size, negatives=negatives),
            argnums=(0, 1, 2),
        )(z, z_pos, tau)
        for name in names
    }


STATIC = ("names", "block_size", "negatives")
at_temperatures = jax.jit(_at_temperatures, static_argnames=STATIC)
# Where the compiler fuses less, forward and backward passes round in other ways.
unoptimised = jax.jit(
    _at_temperatures,
    static_argnames=STATIC,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


TAUS = (1e-3, 1e-2, 0.5, 100.0, 1e4)
HARD = {
    "random": lambda z, p: (z, p),
    "duplicate rows": lambda z, p: (np.repeat(z, 2, 0)[: len(z)], np.repeat(p, 2, 0)[: len(p)]),
    "equal views": lambda z, p: (z, z),
    "all equal": lambda z, p: (0 * z + 1, 0 * p + 1),
    "zeros": lambda z, p: (0 * z, 0 * p),
    "scaled up": lambda z, p: (1e4 * z, 1e4 * p),
    "scaled up, equal views": lambda z, p: (1e4 * z, 1e4 * z),
    "scaled down": lambda z, p: (1e-4 * z, 1e-4 * p),
    "one far away": lambda z, p: (z + 100 * (np.arange(len(z)) == len(z) - 1)[:, None], p),
}


@pytest.mark.parametrize(
    ("dtype", "losses", "names"),
    [
        ("float32", at_temperatures, ("info_nce", "entropy")),
        pytest.param("float32", at_temperatures, AT_TEMPERATURE, marks=pytest.mark.slow),
        pytest.param("float32", unoptimised, AT_TEMPERATURE, marks=pytest.mark.slow),
        pytest.param("bfloat16", at_temperatures, AT_TEMPERATURE, marks=pytest.mark.slow),
    ],
)
def test_precision_at_any_temperature_and_scale(dtype, losses, names, x64):
    """Tiles in float32 against the dense float64 form, within what rounding explains."""
    eps, count = float(jnp.finfo(jnp.float32).eps), 4
    unit_views = views(5, 3, DIM, np.float32, unit=True)
    for case, change in HARD.items():
        low = [jnp.asarray(v, dtype) for v in change(*unit_views)]
        exact = [np.asarray(v, np.float64) for v in low]
        size = bounds.largest_square(*exact)
        for tau in TAUS:
            got = losses(*low, jnp.asarray(tau), names, 1)
            want = at_temperatures(*exact, jnp.asarray(tau), names, None)
            for name in names:
                if name in FAMILIES:
                    parameters = {"info_nce": (tau, 1.0), "soft_triplet": (tau, 0.2)}
                    parameters = parameters.get(name, FAMILIES[name])
                    sensitivity = bounds.of_family(name, parameters, size, count)
                else:
                    sensitivity = bounds.of_rule(name, (tau, *RULES[name][1:]), size, count)
                (loss, gradients), (target, targets) = got[name], want[name]
                of_loss, of_gradient, of_tau = bounds.rounding(
                    sensitivity,
                    eps,
                    size,
                    count,
                    float(target),
                    is_rule=name in RULES,
                    stop_gradient=False,
                    stored=float(jnp.finfo(dtype).eps),
                )
                where = f"{name}, {case}, tau={tau}"
                assert loss.dtype == jnp.float32, where
                np.testing.assert_allclose(loss, target, rtol=0, atol=of_loss, err_msg=where)
                for ours, theirs in zip(gradients[:2], targets[:2], strict=True):
                    assert ours.dtype == dtype, where
                    rtol = 2 * float(jnp.finfo(dtype).eps)
                    ours = np.asarray(ours, np.float64)
                    assert np.isfinite(ours).all(), where
                    np.testing.assert_allclose(
                        ours, theirs, rtol=rtol, atol=of_gradient, err_msg=where
                    )
                np.testing.assert_allclose(
                    tau * gradients[2], tau * targets[2], rtol=1e-5, atol=of_tau, err_msg=where
                )


def check_temperatures(names, n, block_size):
    """Each alone, where only one branch of the shift runs, and all under vmap."""
    z, z_pos = views(6, n, DIM)
    taus = jnp.asarray([1e-4, 1e-3, 0.3, 50.0])
    several = jax.vmap(at_temperatures, in_axes=(None, None, 0, None, None))
    want = several(z, z_pos, taus, names, None)
    stacked = several(z, z_pos, taus, names, block_size)
    alone = [at_temperatures(z, z_pos, tau, names, block_size) for tau in taus]
    # dL/dτ is a difference of numbers of the size of d⁴/τ², each of them rounded.
    farthest = 4 * bounds.largest_square(z, z_pos) / 2
    of_tau = float(jnp.finfo(jnp.float64).eps) * farthest**2 / np.asarray(taus) ** 2
    for got in (stacked, jax.tree.map(lambda *v: jnp.stack(v), *alone)):
        for name in names:
            (loss, gradients), (target, targets) = got[name], want[name]
            for ours, theirs in zip((loss, *gradients[:2]), (target, *targets[:2]), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10, err_msg=name)
            excess = np.abs(gradients[2] - targets[2]) - 1e-9 * np.abs(targets[2])
            assert (excess <= np.maximum(1e-10, of_tau)).all(), (name, excess)


def test_gradient_by_the_temperature(x64):
    check_temperatures(("info_nce",), 3, 1)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 9, 10])  # ten in groups of blocks that are not whole
def test_gradient_by_every_temperature(n, x64):
    check_temperatures(TEMPERED, n, 1)


@pytest.mark.parametrize("name", ["info_nce", "soft_triplet"])
@pytest.mark.parametrize("block_size", [None, 1])
def test_importance_that_is_held_does_not_move_with_the_temperature(name, block_size, x64):
    z, z_pos = views(12, 4, DIM)

    @jax.jit
    def by_temperature(tau):
        implied = acl.rules.from_family(at_temperature(name, tau))
        return acl.alpha_cl_loss(z, z_pos, implied, block_size=block_size)

    assert jax.grad(by_temperature)(0.3) == 0


@pytest.mark.slow
def test_gradient_of_a_vmap_over_temperatures(x64):
    z, z_pos = views(7, 3, DIM)
    taus = jnp.asarray([1e-3, 0.3])

    def total(z, taus, block_size):
        one = functools.partial(loss_at, "info_nce", block_size=block_size)
        return jnp.sum(jax.vmap(one, in_axes=(None, None, 0))(z, z_pos, taus))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), static_argnums=2)
    for ours, theirs in zip(gradient(z, taus, 1), gradient(z, taus, None), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "names", [("info_nce", "direct"), pytest.param(AT_TEMPERATURE, marks=pytest.mark.slow)]
)
def test_wide_temperature_does_not_widen_the_loss(names, x64):
    z, z_pos = views(5, 3, DIM, np.float32)
    got = jax.eval_shape(lambda: at_temperatures(z, z_pos, jnp.asarray(0.3), names, 1))
    for name, (loss, gradients) in got.items():
        types = [loss.dtype, *(g.dtype for g in gradients)]
        assert types == [jnp.float32] * 3 + [jnp.float64], name


@pytest.mark.slow
def test_nan_reaches_the_loss_in_tiles(x64):
    z, z_pos = views(5, 3, DIM, np.float32)
    z[2, 1] = np.nan
    for name, (loss, _) in at_temperatures(z, z_pos, jnp.asarray(0.5), AT_TEMPERATURE, 1).items():
        assert np.isnan(loss), name


@pytest.mark.slow
@pytest.mark.usefixtures("few_tiles")
def test_gradient_of_the_gradient(x64):
    """Reverse over reverse: a penalty on the gradient, or a learned learning rate."""
    z, z_pos = views(10, 3, 2)
    names = ("info_nce", "backprop_direct")
    direction = views(11, 3, 2)[0]

    @functools.partial(jax.jit, static_argnums=1)
    def second(z, block_size):
        def slope(z, name):
            gradient = jax.grad(lambda z: public(name, z, z_pos, block_size=block_size))(z)
            return jnp.sum(gradient * direction)

        return [jax.grad(slope)(z, name) for name in names]

    for name, ours, theirs in zip(names, second(z, 1), second(z, None), strict=True):
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11, err_msg=name)


# --- maps ---


@pytest.mark.slow
def test_local_loss_in_a_checked_shard_map(x64):
    """Each device its own loss of its own samples; the temperature is the same on all of them."""
    devices, n = 4, 3
    z, z_pos = views(12, devices * n, DIM)
    mesh = jax.make_mesh((devices,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    names = ("info_nce", "direct")

    def losses(z, z_pos, tau):
        return jnp.stack([loss_at(name, z, z_pos, tau, block_size=1) for name in names])[None]

    mapped = jax.shard_map(
        losses, mesh=mesh, in_specs=(P("batch"), P("batch"), P()), out_specs=P("batch")
    )

    def apart(z, z_pos, tau):
        one = lambda z, p: jnp.stack([loss_at(name, z, p, tau) for name in names])  # noqa: E731
        return jax.vmap(one)(z.reshape(devices, n, DIM), z_pos.reshape(devices, n, DIM))

    for tau in (1e-3, 0.4):
        weights = np.random.default_rng(0).normal(size=(devices, 2))
        results = []
        for function in (mapped, apart):
            gradient = jax.jit(
                jax.value_and_grad(
                    lambda *a, f=function, w=weights: jnp.sum(w * f(*a)), argnums=(0, 1, 2)
                )
            )
            results.append(jax.tree.leaves(gradient(z, z_pos, tau)))
        for ours, theirs in zip(*results, strict=True):
            # By τ = 1e-3 eps · (d²/τ)² is left of float64.
            np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-11)


# --- memory ---


@pytest.mark.parametrize(
    "negatives", ["both_views", pytest.param("same_view", marks=pytest.mark.slow)]
)
def test_memory_of_tiles(negatives):
    """O(anchors · (dim + block)): no more pairs at a time than `block_size` rows have."""
    anchors, dim, block_size = 4096, 4, 16
    n = anchors // (2 if negatives == "both_views" else 1)
    view = jax.ShapeDtypeStruct((n, dim), jnp.float32)

    def all_losses(z, z_pos):
        return sum(
            public(name, z, z_pos, negatives=negatives, block_size=block_size)
            for name in ("sigmoid", "backprop_direct")
        )

    compiled = jax.jit(jax.value_and_grad(all_losses)).lower(view, view).compile()
    # A dozen arrays of [block_size, anchors], and of the embeddings' size, for each of the losses.
    bound = 2 * 12 * 4 * anchors * (block_size + dim)
    assert compiled.memory_analysis().temp_size_in_bytes < bound < 4 * anchors**2 / 4
