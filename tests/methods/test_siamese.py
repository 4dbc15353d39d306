"""BYOL, SimSiam, DirectPred: the loss and what moves between steps, against plain NumPy."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.predictor import eigenspace_alignment, fitted
from alphacl_jax.methods.siamese import SetPredictor, siamese_method
from alphacl_jax.methods.target import constant_momentum, cosine_momentum
from alphacl_jax.models.heads import Predictor, Projector
from alphacl_jax.models.resnet import small_resnet

BATCH, SIZE, DIM = 6, 5, 3
KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(BATCH, 2, SIZE)).astype(np.float32)


class Linear(nn.Module):
    """An encoder without statistics, whose sums can be written down."""

    width: int = SIZE

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(self.width, use_bias=False)(x)


def batch_of(x, recorded=True, **more):
    labels = jnp.zeros(len(x), jnp.int32)
    return {"views": jnp.asarray(x), "labels": labels, "recorded": jnp.array(recorded), **more}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cosine_loss(p, t):
    return float(np.mean(2 - 2 * np.sum(unit(p) * unit(t), axis=-1)))


def kernel(params, name):
    return np.asarray(params[name]["Dense_0"]["kernel"])


def linear_method(predictor=None, **options):
    return siamese_method(Linear(), Linear(DIM), predictor, **options)


def stepped(method, params, state, x=X, rate=0.1):
    """One step of plain gradient descent."""
    gradient, (new_state, metrics) = jax.jit(jax.grad(method.loss, has_aux=True))(
        params, state, batch_of(x), KEY
    )
    return jax.tree.map(lambda p, g: p - rate * g, params, gradient), new_state, metrics


@pytest.mark.parametrize("target", ["ema", "stop_gradient", "shared"])
def test_the_value_is_that_of_both_pairs_and_the_gradient_that_of_the_switch(target):
    momentum = constant_momentum(0.9) if target == "ema" else None
    method = linear_method(Linear(DIM), target=target, momentum=momentum)
    params, state = method.init(KEY, batch_of(X))
    online = [kernel(params, name) for name in ("encoder", "projector", "predictor")]
    f = X @ online[0] @ online[1]
    p = f @ online[2]
    value, _ = jax.jit(method.loss)(params, state, batch_of(X), KEY)
    want = 0.5 * (cosine_loss(p[:, 0], f[:, 1]) + cosine_loss(p[:, 1], f[:, 0]))
    np.testing.assert_allclose(value, want, rtol=1e-5)

    def by_hand(weights, held):
        f = jnp.asarray(X) @ weights[0] @ weights[1]
        t = jax.lax.stop_gradient(f) if held else f
        p = f @ weights[2]
        normed = lambda v: v / jnp.linalg.norm(v, axis=-1, keepdims=True)  # noqa: E731
        return jnp.mean(2 - 2 * jnp.sum(normed(p) * normed(t)[:, ::-1], axis=-1))

    found = jax.jit(jax.grad(method.loss, has_aux=True))(params, state, batch_of(X), KEY)[0]
    want = jax.grad(by_hand)([jnp.asarray(w) for w in online], target != "shared")
    for name, gradient in zip(("encoder", "projector", "predictor"), want, strict=True):
        np.testing.assert_allclose(found[name]["Dense_0"]["kernel"], gradient, rtol=1e-3, atol=1e-6)


def test_the_target_is_the_average_of_what_each_step_made():
    method = linear_method(Linear(DIM), target="ema", momentum=constant_momentum(0.75))
    params, state = method.init(KEY, batch_of(X))
    target = kernel(params, "encoder")  # before the first step it is the online one
    for _ in range(3):
        params, state, metrics = stepped(method, params, state)
        found = state["target"]["encoder"]["Dense_0"]["kernel"]
        np.testing.assert_allclose(found, target, rtol=1e-5)
        target = 0.75 * target + 0.25 * kernel(params, "encoder")
        assert metrics["momentum"] == 0.75
    assert not np.allclose(target, kernel(params, "encoder"), atol=1e-4)
    assert set(state["target"]) == {"encoder", "projector"}


def test_a_run_that_starts_from_other_weights_has_them_in_its_target():
    method = linear_method(None, target="ema", momentum=constant_momentum(0.9))
    params, state = method.init(KEY, batch_of(X))
    other = jax.tree.map(lambda p: p + 1.0, params)
    _, (state, _) = jax.jit(method.loss)(other, state, batch_of(X), KEY)
    jax.tree.map(np.testing.assert_array_equal, state["target"], other)


def test_momentum_goes_from_its_start_to_one():
    momentum = cosine_momentum(0.9, 100)
    np.testing.assert_allclose(momentum(jnp.array(0)), 0.9, rtol=1e-6)
    np.testing.assert_allclose(momentum(jnp.array(50)), 0.95, rtol=1e-6)
    np.testing.assert_allclose(momentum(jnp.array(100)), 1.0, rtol=1e-6)
    np.testing.assert_allclose(momentum(jnp.array(300)), 1.0, rtol=1e-6)  # a run that was extended


@pytest.mark.parametrize("kind", ["directpred", "directcopy"])
def test_a_predictor_is_set_from_the_average_and_used_from_the_second_step_on(kind):
    predictor = SetPredictor(kind, eps=0.1)
    method = linear_method(predictor, target="stop_gradient", correlation_decay=0.3)
    params, state = method.init(KEY, batch_of(X))
    matrix, weights = None, np.eye(DIM)
    for _ in range(3):
        f = X @ kernel(params, "encoder") @ kernel(params, "projector")
        value, _ = jax.jit(method.loss)(params, state, batch_of(X), KEY)
        p = f @ weights.T
        want = 0.5 * (cosine_loss(p[:, 0], f[:, 1]) + cosine_loss(p[:, 1], f[:, 0]))
        np.testing.assert_allclose(value, want, rtol=1e-4)
        rows = f.reshape(-1, DIM)
        own = rows.T @ rows / len(rows)
        matrix = own if matrix is None else 0.3 * matrix + 0.7 * own
        s, u = np.linalg.eigh(matrix)
        if kind == "directpred":
            weights = u @ np.diag(np.sqrt(np.maximum(s, 0) / s.max()) + 0.1) @ u.T
        else:
            weights = matrix + 0.1 * np.eye(DIM)
        params, state, metrics = stepped(method, params, state)
        np.testing.assert_allclose(state["correlation"], matrix, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(state["weights"], weights, rtol=1e-3, atol=1e-5)
        # Of F's own functions F's eigenvectors are eigenvectors.
        np.testing.assert_allclose(metrics["eigenspace_alignment"], 1.0, rtol=1e-4)
    assert "predictor" not in params


def test_a_predictor_may_be_kept_for_some_steps():
    method = linear_method(SetPredictor("directpred", every=2), target="stop_gradient")
    params, state = method.init(KEY, batch_of(X))
    seen = []
    for _ in range(4):
        params, state, _ = stepped(method, params, state)
        seen.append(np.asarray(state["weights"]))
    assert (seen[0] == seen[1]).all()
    assert (seen[1] != seen[2]).any()
    assert (seen[2] == seen[3]).all()


def test_alignment_is_that_of_eigenvectors():
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(DIM, DIM)))
    s = np.array([0.5, 1.0, 2.0])
    matrix = basis @ np.diag(s) @ basis.T
    weights = rng.normal(size=(DIM, DIM))
    cosines = [abs(u @ weights @ u) / np.linalg.norm(weights @ u) for u in basis.T]
    found = eigenspace_alignment(jnp.asarray(weights), jnp.asarray(matrix))
    np.testing.assert_allclose(found, (s * cosines).sum() / s.sum(), rtol=1e-4)
    f = jnp.asarray(rng.normal(size=(40, DIM)), jnp.float32)
    np.testing.assert_allclose(fitted(f, f @ weights.T), weights, rtol=1e-2, atol=1e-3)


def test_metrics_tell_collapse():
    method = linear_method(None, target="stop_gradient")
    params, state = method.init(KEY, batch_of(X))
    _, (_, metrics) = jax.jit(method.loss)(params, state, batch_of(X), KEY)
    z = unit((X @ kernel(params, "encoder") @ kernel(params, "projector")).reshape(-1, DIM))
    np.testing.assert_allclose(metrics["std"], z.std(axis=0).mean(), rtol=1e-4)
    assert method.warning(metrics) == ""
    share = np.linalg.eigvalsh(np.cov(z.T))
    share = share / share.sum()
    rank = np.exp(-np.sum(share * np.log(share)))
    np.testing.assert_allclose(metrics["embedding_rank"], rank, rtol=1e-3)
    same = np.broadcast_to(X[:1, :1], X.shape)
    _, (_, metrics) = jax.jit(method.loss)(params, state, batch_of(same), KEY)
    assert metrics["std"] < 1e-6
    assert metrics["healthy_std"] == pytest.approx(DIM**-0.5)
    assert "are collapsing: their standard deviation" in method.warning(metrics)
    quiet = batch_of(X, recorded=False)
    _, (_, metrics) = jax.jit(method.loss)(params, state, quiet, KEY)
    assert not any(metrics.values())


def test_small_views_are_predicted_from_and_are_no_targets():
    encoder = small_resnet((4,))
    rng = np.random.default_rng(2)
    views = rng.normal(size=(4, 2, 8, 8, 3)).astype(np.float32)
    small = jnp.asarray(rng.normal(size=(4, 3, 4, 4, 3)), jnp.float32)
    method = siamese_method(encoder, Projector(8, 1, DIM), None, target="stop_gradient")
    batch = batch_of(views, small_views=small)
    params, state = method.init(KEY, batch)
    value, (new_state, _) = jax.jit(method.loss)(params, state, batch, KEY)
    found = []
    stats = {name: state[name] for name in ("encoder", "projector")}
    for images in (views, small):
        h, updates = encoder.apply(
            {"params": params["encoder"], "batch_stats": stats["encoder"]},
            images.reshape(-1, *images.shape[2:]),
            train=True,
            mutable=["batch_stats"],
        )
        stats["encoder"] = updates["batch_stats"]
        z = Projector(8, 1, DIM).apply({"params": params["projector"]}, h, train=True)
        found.append(np.asarray(z).reshape(4, -1, DIM))
    f = np.concatenate(found, axis=1)
    pairs = [(u, v) for u, v in itertools.product(range(5), range(2)) if u != v]
    want = np.mean([cosine_loss(f[:, u], f[:, v]) for u, v in pairs])
    np.testing.assert_allclose(value, want, rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        new_state["encoder"],
        stats["encoder"],
    )


def test_features_and_embeddings_are_the_online_ones():
    method = linear_method(Linear(DIM), target="ema", momentum=constant_momentum(0.9))
    params, state = method.init(KEY, batch_of(X))
    images = X[:, 0]
    np.testing.assert_allclose(
        method.features(params, state, images), images @ kernel(params, "encoder"), rtol=1e-5
    )
    want = unit(images @ kernel(params, "encoder") @ kernel(params, "projector"))
    np.testing.assert_allclose(method.embed(params, state, images), want, rtol=1e-4)


def test_without_stop_gradient_it_collapses_and_with_a_predictor_it_does_not():
    """Both trained alike on noise about three directions; std is 1/√dim = 0.58 when healthy."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(64, 1, SIZE))
    x = (centres + 0.3 * rng.normal(size=(64, 2, SIZE))).astype(np.float32)
    found = {}
    optimizer = optax.sgd(0.3)
    for target, predictor in (("shared", None), ("stop_gradient", SetPredictor("directpred"))):
        method = linear_method(predictor, target=target)
        params, state = method.init(KEY, batch_of(x))
        opt_state = optimizer.init(params)

        @jax.jit
        def step(params, state, opt_state, method=method):
            gradient, (state, metrics) = jax.grad(method.loss, has_aux=True)(
                params, state, batch_of(x), KEY
            )
            updates, opt_state = optimizer.update(gradient, opt_state)
            return optax.apply_updates(params, updates), state, opt_state, metrics

        for _ in range(600):
            params, state, opt_state, metrics = step(params, state, opt_state)
        found[target] = float(metrics["embedding_rank"])
    assert found["shared"] < 1.1
    assert found["stop_gradient"] > 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "queue"}, "target='queue' must be one of ema, stop_gradient, shared"),
        ({"target": "ema"}, "momentum=None is needed by the target 'ema'"),
        ({"target": "shared", "momentum": cosine_momentum(0.9, 3)}, "momentum=.* by it alone"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        linear_method(None, **options)


def test_one_view_is_an_error():
    method = linear_method(Predictor(4), target="stop_gradient")
    with pytest.raises(ArgumentError, match="views=1 of each sample was made, and a Siamese"):
        method.init(KEY, batch_of(X[:, :1]))
