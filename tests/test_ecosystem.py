"""The losses as other people's JAX code meets them: module libraries, transformations, modes.

A loss of each kind goes through each of these, all in one compiled program; in the slow set every
family and every rule goes through strict promotion and both kinds of mesh.
"""

import functools
import itertools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import alphacl_jax as acl
from tests.cases import FAMILIES, RULES, family, objectives, regularized, rule, views

N, DIM, TAU = 8, 3, 0.4
# One of each kind in the fast set, which compiles them many times; all of them in the slow one.
KINDS = ("info_nce", "triplet", "alpha_direct", "alpha_square", "backprop_direct")
EVERY = tuple(objectives())
Z, Z_POS = views(0, N, DIM, np.float32, unit=True)
TABLE = {
    **{name: family(name) for name in FAMILIES},
    **{f"alpha_{name}": rule(name) for name in RULES},
    "alpha_from_mine": acl.rules.from_family(acl.families.mine()),
    "alpha_regularized": regularized("inverse", 0.5),
}


def all_losses(z, z_pos, names=KINDS, **options):
    """The value of each loss, `[losses]`."""
    table = objectives()
    return jnp.stack([table[name](z, z_pos, **options) for name in names])


def loss_of(objective, z, z_pos, **options):
    if isinstance(objective, acl.Family):
        return acl.contrastive_loss(z, z_pos, objective, **options)
    return acl.alpha_cl_loss(z, z_pos, objective, stop_gradient=False, **options)


@functools.partial(jax.jit, static_argnames="names")
def expected(z, z_pos, names=KINDS):
    """Values, and the gradient of their sum."""
    (_, values), gradient = jax.value_and_grad(
        lambda z: (lambda v: (jnp.sum(v), v))(all_losses(z, z_pos, names)), has_aux=True
    )(z)
    return values, gradient


# Module libraries: a linear layer whose gradient is that of the plain function of its weights.

WEIGHTS = np.asarray(np.random.default_rng(1).normal(size=(5, DIM)), np.float32)
X, X_POS = views(2, N, 5, np.float32)


@jax.jit
def plain_gradient(weights):
    return jax.grad(lambda w: jnp.sum(all_losses(X @ w, X_POS @ w)))(weights)


def test_linen():
    layer = nn.Dense(DIM, use_bias=False)

    def total(params):
        return jnp.sum(all_losses(layer.apply(params, X), layer.apply(params, X_POS)))

    found = jax.jit(jax.grad(total))({"params": {"kernel": WEIGHTS}})
    np.testing.assert_allclose(
        found["params"]["kernel"], plain_gradient(WEIGHTS), rtol=1e-4, atol=1e-4
    )


def test_nnx():
    layer = nnx.Linear(5, DIM, use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(WEIGHTS)
    found = nnx.jit(nnx.grad(lambda m: jnp.sum(all_losses(m(X), m(X_POS)))))(layer)
    np.testing.assert_allclose(found.kernel[...], plain_gradient(WEIGHTS), rtol=1e-4, atol=1e-4)


def test_a_temperature_that_is_an_nnx_variable():
    class Temperatures(nnx.Module):
        def __init__(self):
            self.of_loss = nnx.Param(jnp.float32(TAU))
            self.of_rule = nnx.Param(jnp.float32(TAU))
            self.log_tau = nnx.Param(jnp.log(jnp.float32(TAU)))

    def by_logarithm(log_tau):
        family = acl.families.info_nce(acl.learned_temperature(log_tau, 0.01))
        return acl.contrastive_loss(X_POS[:, :DIM], X[:, :DIM], family)

    def loss(module):
        family, rule = acl.families.info_nce(module.of_loss), acl.rules.entropy(module.of_rule)
        of_rule = acl.alpha_cl_loss(X_POS[:, :DIM], X[:, :DIM], rule, stop_gradient=False)
        of_loss = acl.contrastive_loss(X_POS[:, :DIM], X[:, :DIM], family)
        return of_loss + of_rule + by_logarithm(module.log_tau)

    def plain(of_loss, of_rule):
        family, rule = acl.families.info_nce(of_loss), acl.rules.entropy(of_rule)
        of_rule = acl.alpha_cl_loss(X_POS[:, :DIM], X[:, :DIM], rule, stop_gradient=False)
        return acl.contrastive_loss(X_POS[:, :DIM], X[:, :DIM], family) + of_rule

    found = nnx.jit(nnx.grad(loss))(Temperatures())
    wanted = jax.grad(plain, argnums=(0, 1))(jnp.float32(TAU), jnp.float32(TAU))
    np.testing.assert_allclose((found.of_loss[...], found.of_rule[...]), wanted, rtol=1e-5)
    by_log = jax.grad(by_logarithm)(jnp.log(jnp.float32(TAU)))
    np.testing.assert_allclose(found.log_tau[...], by_log, rtol=1e-5)


def test_equinox():
    layer = eqx.nn.Linear(5, DIM, use_bias=False, key=jax.random.key(0))
    layer = eqx.tree_at(lambda m: m.weight, layer, jnp.asarray(WEIGHTS.T))
    apply = jax.vmap
    found = eqx.filter_jit(
        eqx.filter_grad(lambda m: jnp.sum(all_losses(apply(m)(X), apply(m)(X_POS))))
    )(layer)
    np.testing.assert_allclose(found.weight.T, plain_gradient(WEIGHTS), rtol=1e-4, atol=1e-4)


def test_a_family_in_an_equinox_module_is_trained_with_it():
    class Model(eqx.Module):
        weights: jax.Array
        loss: acl.Family

    model = Model(jnp.asarray(WEIGHTS), acl.families.info_nce(TAU))
    gradient = eqx.filter_jit(
        eqx.filter_grad(lambda m: acl.contrastive_loss(X @ m.weights, X_POS @ m.weights, m.loss))
    )(eqx.tree_at(lambda m: m.loss, model, jax.tree.map(jnp.float32, model.loss)))
    assert abs(float(jax.tree.leaves(gradient.loss)[0])) > 1e-4


# Transformations.


def test_a_temperature_is_learned_by_optax():
    optimizer = optax.sgd(0.05)

    def loss(log_tau):
        nt_xent = acl.families.info_nce(jnp.exp(log_tau))
        return acl.contrastive_loss(Z, Z_POS, nt_xent) / jnp.exp(log_tau)

    @jax.jit
    def step(log_tau, state):
        value, gradient = jax.value_and_grad(loss)(log_tau)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(log_tau, updates), state, value

    log_tau = jnp.log(jnp.float32(TAU))
    state, values = optimizer.init(log_tau), []
    for _ in range(5):
        log_tau, state, value = step(log_tau, state)
        values.append(float(value))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 1e-4


@pytest.mark.parametrize("name", ["info_nce", "sigmoid", "alpha_direct", "alpha_inverse"])
def test_families_and_rules_are_arguments_and_their_parameters_leaves(name):
    objective = TABLE[name]
    as_argument = jax.jit(loss_of)(objective, Z, Z_POS)
    np.testing.assert_allclose(as_argument, loss_of(objective, Z, Z_POS), rtol=1e-5)
    given = jax.tree.map(jnp.float32, objective)
    gradient = jax.jit(jax.grad(loss_of))(given, Z, Z_POS)
    assert jax.tree.structure(gradient) == jax.tree.structure(given)
    assert any(abs(float(leaf)) > 1e-6 for leaf in jax.tree.leaves(gradient))
    static = jax.jit(loss_of, static_argnums=0)
    np.testing.assert_allclose(static(objective, Z, Z_POS), as_argument, rtol=1e-5)
    assert hash(objective) == hash(TABLE[name])


def test_repr_is_what_was_written():
    assert repr(acl.rules.direct(0.5, power=4)) == "rules.direct(temperature=0.5, power=4)"
    assert repr(acl.families.info_nce()) == "families.info_nce(temperature=0.5, eps=1.0)"
    assert repr(acl.rules.from_family(acl.families.mine())) == (
        "rules.from_family(families.mine())"
    )
    for objective in TABLE.values():
        assert repr(objective).startswith(("families.", "rules."))


def test_vmap_over_temperatures_and_over_seeds():
    taus = jnp.array([0.2, 0.5, 2.0])
    stack = jax.vmap(acl.families.info_nce)(taus)
    found = jax.jit(jax.vmap(loss_of, in_axes=(0, None, None)))(stack, Z, Z_POS)
    wanted = [acl.contrastive_loss(Z, Z_POS, acl.families.info_nce(float(t))) for t in taus]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    seeds = jnp.stack([jnp.asarray(views(s, N, DIM, np.float32)[0]) for s in range(3)])
    many = jax.jit(jax.vmap(all_losses, in_axes=(0, None)))(seeds, Z_POS)
    for one, of_one in zip(seeds, many, strict=True):
        np.testing.assert_allclose(of_one, expected(one, Z_POS)[0], rtol=1e-4, atol=1e-5)


def test_checkpoint_and_scan():
    def total(z):
        return jnp.sum(jax.checkpoint(all_losses)(z, Z_POS))

    values, gradient = expected(Z, Z_POS)
    np.testing.assert_allclose(jax.jit(jax.grad(total))(Z), gradient, rtol=1e-4, atol=1e-5)

    @jax.jit
    def scanned(zs):
        return jax.lax.scan(lambda carry, z: (carry, all_losses(z, Z_POS)), 0, zs)[1]

    np.testing.assert_allclose(scanned(jnp.stack([Z, Z]))[1], values, rtol=1e-5, atol=1e-6)


# Modes.


def in_turn(column, in_blocks):
    """One of each kind, whole, for every entry of a column; blocks and all the others are slow.

    Every loss is in blocks for one entry, `in_blocks`: they take minutes to compile.
    """
    cases = []
    for which, names in (("kinds", KINDS), ("every", EVERY)):
        for block_size, entry in itertools.product((None, 3), column):
            if names is EVERY and block_size is not None and entry != in_blocks:
                continue
            fast = names is KINDS and block_size is None
            marks = () if fast else pytest.mark.slow
            name = f"{which}-{block_size}-{entry}"
            cases.append(pytest.param(entry, block_size, names, marks=marks, id=name))
    return cases


KINDS_OF_MESH = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
TYPES = ("float32", "bfloat16", "float16")


@pytest.mark.parametrize(("dtype", "block_size", "names"), in_turn(TYPES, "bfloat16"))
def test_strict_promotion(dtype, block_size, names):
    z, z_pos = jnp.asarray(Z, dtype), jnp.asarray(Z_POS, dtype)

    def total(z):
        values = all_losses(acl.l2_normalize(z), z_pos, names, block_size=block_size)
        return jnp.sum(values), values

    with jax.numpy_dtype_promotion("strict"):
        (_, values), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(z)
        alpha = acl.pairwise_importance(z, z_pos, acl.rules.square())
        acl.energy(z, z_pos, alpha)
        acl.statistics(z, z_pos, acl.families.info_nce(), block_size=block_size)
        acl.contrastive_covariance(z, z_pos, alpha)
    assert values.dtype == jnp.float32
    assert gradient.dtype == jnp.dtype(dtype)
    tolerance = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}[dtype]
    wanted = expected(Z, Z_POS, names)[0]
    np.testing.assert_allclose(values, wanted, rtol=tolerance, atol=tolerance)


def test_views_and_weights_of_other_types_under_strict_promotion(x64):
    z, z_pos, alpha = jnp.asarray(Z), jnp.asarray(Z_POS, jnp.bfloat16), jnp.ones((N, N))
    with jax.numpy_dtype_promotion("strict"):
        for negatives in ("both_views", "cross_view"):
            mixed = all_losses(z, z_pos, negatives=negatives)
            same = all_losses(z, z_pos.astype(jnp.float32), negatives=negatives)
            np.testing.assert_array_equal(mixed, same)
        assert alpha.dtype == jnp.float64
        energies = acl.energy(z, z, alpha), acl.energy(z, z, alpha.astype(jnp.float32))
    np.testing.assert_allclose(*energies, rtol=1e-5)


def test_strict_promotion_in_float64(x64):
    z, z_pos = views(0, N, DIM, np.float64, unit=True)
    with jax.numpy_dtype_promotion("strict"):
        values = jax.jit(all_losses)(jnp.asarray(z), jnp.asarray(z_pos))
    assert values.dtype == jnp.float64
    assert np.isfinite(values).all()


def test_debug_nans_leak_checks_and_a_transfer_guard():
    z, z_pos = jax.device_put((Z, Z_POS))
    compiled = jax.jit(jax.grad(lambda z, z_pos: jnp.sum(all_losses(z, z_pos))))
    with jax.debug_nans(True), jax.checking_leaks():
        gradient = compiled(z, z_pos)
    with jax.transfer_guard("disallow"):
        again = compiled(z, z_pos)
    np.testing.assert_array_equal(gradient, again)
    np.testing.assert_allclose(gradient, expected(Z, Z_POS)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "block_size", "names"), in_turn(tuple(KINDS_OF_MESH), "explicit"))
def test_meshes_give_the_value_and_gradient_of_one_device(kind, block_size, names):
    values, gradient = expected(Z, Z_POS, names)
    mesh = jax.make_mesh((4,), ("data",), (KINDS_OF_MESH[kind],))

    def total(z, z_pos):
        found = all_losses(z, z_pos, names, block_size=block_size)
        return jnp.sum(found), found

    def local(z, z_pos):
        return all_losses(z, z_pos, names, block_size=block_size, axis_name="data")

    with jax.set_mesh(mesh):
        z, z_pos = jax.device_put((Z, Z_POS), NamedSharding(mesh, P("data")))
        (_, found), of_z = jax.jit(jax.value_and_grad(total, has_aux=True))(z, z_pos)
        mapped = jax.shard_map(local, in_specs=P("data"), out_specs=P())
        inside, of_inside = jax.jit(
            lambda z, z_pos: (
                mapped(z, z_pos),
                jax.grad(lambda z: jnp.sum(mapped(z, z_pos)))(z),
            )
        )(z, z_pos)
    for of_values, of_gradient in ((found, of_z), (inside, of_inside)):
        np.testing.assert_allclose(np.asarray(of_values), values, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.asarray(of_gradient), gradient, rtol=1e-3, atol=1e-4)


PARTLY_MANUAL = {"data": ("data", P("data")), "model": (None, P())}
# Whole, and in blocks of rows, in the fast set; tiles, which take long to compile, in the slow one.
PARTLY_MANUAL_CASES = [
    pytest.param("data", None, ("info_nce",), id="fast-None-data"),
    pytest.param("model", 3, ("alpha_square",), id="fast-3-model"),
    pytest.param("data", 3, ("alpha_square",), id="rows-3-data", marks=pytest.mark.slow),
    *(
        pytest.param(manual, size, names, id=f"{which}-{size}-{manual}", marks=pytest.mark.slow)
        for manual in PARTLY_MANUAL
        for size in (None, 3)
        for which, names in (("kinds", KINDS), ("every", EVERY))
    ),
]


@pytest.mark.parametrize(("manual", "block_size", "names"), PARTLY_MANUAL_CASES)
def test_a_shard_map_over_one_explicit_axis_of_two(manual, block_size, names):
    axis_name, spec = PARTLY_MANUAL[manual]
    mesh = jax.make_mesh((4, 2), ("data", "model"), (AxisType.Explicit,) * 2)
    weights = np.eye(DIM, dtype=np.float32) + 0.1

    def local(weights, z, z_pos, axis_name=axis_name):
        # Learned weights: their gradient passes through both views.
        z, z_pos = acl.l2_normalize(z @ weights), acl.l2_normalize(z_pos @ weights)
        return all_losses(z, z_pos, names, block_size=block_size, axis_name=axis_name)

    def with_gradient(losses):
        def total(weights, z, z_pos):
            found = losses(weights, z, z_pos)
            return jnp.sum(found), found

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))

    alone = with_gradient(functools.partial(local, axis_name=None))
    (_, values), gradients = alone(weights, Z, Z_POS)
    with jax.set_mesh(mesh):
        z, z_pos = jax.device_put((Z, Z_POS), NamedSharding(mesh, P("data")))
        whole = jax.device_put(weights, NamedSharding(mesh, P()))
        mapped = jax.shard_map(
            local, in_specs=(P(), spec, spec), out_specs=P(), axis_names={manual}
        )
        (_, found), of_arguments = with_gradient(mapped)(whole, z, z_pos)
    np.testing.assert_allclose(np.asarray(found), values, rtol=1e-4, atol=1e-5)
    for of_argument, gradient in zip(of_arguments, gradients, strict=True):
        np.testing.assert_allclose(np.asarray(of_argument), gradient, rtol=1e-3, atol=1e-4)


def test_what_has_rows_keeps_them_where_they_lie_under_explicit_sharding():
    mesh = jax.make_mesh((4,), ("data",), (AxisType.Explicit,))
    rule = acl.rules.direct()
    with jax.set_mesh(mesh):
        z, z_pos = jax.device_put((Z, Z_POS), NamedSharding(mesh, P("data")))
        rows = jax.jit(lambda *v: acl.alpha_cl_loss(*v, rule, reduction="none"))(z, z_pos)
        alpha = jax.jit(lambda *v: acl.pairwise_importance(*v, rule))(z, z_pos)
        energy = jax.jit(acl.energy)(z, z_pos, alpha)
        scalars = jax.jit(lambda *v: acl.statistics(*v, rule))(z, z_pos)
    assert jax.typeof(rows).sharding.spec[0] == "data"
    assert jax.typeof(alpha).sharding.spec[0] == "data"
    np.testing.assert_allclose(energy, scalars["energy"], rtol=1e-4)
    np.testing.assert_allclose(
        np.asarray(rows), acl.alpha_cl_loss(Z, Z_POS, rule, reduction="none"), rtol=1e-4
    )


@pytest.mark.parametrize(
    "negatives", ["both_views", pytest.param("cross_view", marks=pytest.mark.slow)]
)
def test_export_with_a_symbolic_batch(negatives):
    (n,) = export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((n, DIM), jnp.float32)

    def losses(z, z_pos):
        return all_losses(z, z_pos, negatives=negatives)

    exported = export.export(jax.jit(losses))(shape, shape)
    again = export.deserialize(exported.serialize())
    for batch in (N, 5):
        z, z_pos = Z[:batch], Z_POS[:batch]
        np.testing.assert_allclose(again.call(z, z_pos), losses(z, z_pos), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("block_size", "temperatures"),
    [
        (None, np.float32([1, 2])),
        (None, np.int32([1, 2])),
        pytest.param(3, np.float32([1, 2]), marks=pytest.mark.slow),
        pytest.param(3, np.int32([1, 2]), marks=pytest.mark.slow),
    ],
)
def test_gradients_by_embeddings_are_mapped_over_temperatures(block_size, temperatures):
    """Without jit the temperature is traced, and nothing differentiates by it."""

    def gradient(z, temperature):
        family = acl.families.info_nce(temperature)
        return jax.grad(lambda z: acl.contrastive_loss(z, Z_POS, family, block_size=block_size))(z)

    found = jax.vmap(gradient, in_axes=(None, 0))(jnp.asarray(Z), jnp.asarray(temperatures))

    @jax.jit
    @jax.grad
    def dense(z, temperature):
        return acl.contrastive_loss(z, Z_POS, acl.families.info_nce(temperature))

    for one, temperature in zip(found, (1.0, 2.0), strict=True):
        np.testing.assert_allclose(one, dense(Z, temperature), rtol=1e-5, atol=1e-6)


def test_a_loss_of_ones_own_may_read_a_traced_whole_number():
    def gradient(z, power, block_size=None):
        family = acl.Family(phi=jnp.log1p, psi=lambda x: jnp.exp(power * x))
        return jax.grad(lambda z: acl.contrastive_loss(z, Z_POS, family, block_size=block_size))(z)

    blocked = functools.partial(gradient, block_size=3)
    found = jax.jit(jax.vmap(blocked, in_axes=(None, 0)))(jnp.asarray(Z), jnp.array([1, 2]))
    for one, power in zip(found, (1, 2), strict=True):
        np.testing.assert_allclose(one, jax.jit(gradient)(Z, power), rtol=1e-5, atol=1e-6)


def test_an_exported_loss_refuses_a_single_sample_where_the_symbol_says_so():
    (n,) = export.symbolic_shape("n", constraints=["n >= 2"])
    shape = jax.ShapeDtypeStruct((n, DIM), jnp.float32)
    loss = jax.jit(lambda *views: acl.contrastive_loss(*views, acl.families.info_nce(TAU)))
    exported = export.deserialize(export.export(loss)(shape, shape).serialize())
    np.testing.assert_allclose(exported.call(Z[:2], Z_POS[:2]), loss(Z[:2], Z_POS[:2]), rtol=1e-5)
    with pytest.raises(ValueError, match=r"Error refining shapes|n >= 2"):
        exported.call(Z[:1], Z_POS[:1])
