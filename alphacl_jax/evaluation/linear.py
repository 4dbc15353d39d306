"""Linear probes: multinomial logistic regression on frozen features.

    minimise over W, b:   Σ_i −log softmax(W x_i + b)[y_i]  +  (l2/2) ‖W‖²        (b is free)

by full-batch L-BFGS, from zero. Features are standardised by the training set's mean and standard
deviation, the variance of each first shrunk half-way to the mean variance: that changes little
for an encoder, and is kinder to baselines such as raw pixels, many of which hardly vary. The
penalty counts against the *sum* over samples (scikit-learn's C is 1/l2), so that one value serves
two labels per class and fifty thousand samples alike.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from alphacl_jax.evaluation.checks import check_split


def linear_probe(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    num_classes: int,
    *,
    l2: float = 1.0,
    steps: int = 200,
) -> float:
    """Test accuracy of logistic regression on all labels, after its last step.

    Args:
        train_x: features `[n, dim]`.
        train_y: labels `[n]` in [0, num_classes).
        test_x: features `[m, dim]`.
        test_y: labels `[m]` in [0, num_classes).
        num_classes: at least 2.
        l2: weight of ½‖W‖² against the loss summed over the samples, > 0.
        steps: L-BFGS iterations; fewer where the gradient has vanished before.

    Returns:
        Accuracy in [0, 1].

    Raises:
        AssertionError: shapes.
        ValueError: features that are not finite, labels out of range, `l2` or `steps` not positive.
    """
    _check_options(l2, steps)
    train_x, train_y, test_x, test_y = check_split(train_x, train_y, test_x, test_y, num_classes)
    train_x, test_x = _standardise(train_x, test_x)
    return float(_accuracy(train_x, train_y, test_x, test_y, l2, num_classes, steps))


def few_label_probe(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    num_classes: int,
    *,
    labels_per_class: int,
    draws: int = 20,
    seed: int = 0,
    l2: float = 1.0,
    steps: int = 200,
) -> tuple[float, float]:
    """Test accuracy with few labels: mean and standard deviation over draws of the labelled set.

    Each draw takes `labels_per_class` samples of every class without replacement. The draws
    depend on `seed` and `train_y` alone, so that different features are compared on the same
    samples. Features are standardised by the whole training set, whose labels are not needed
    for that.

    Args:
        labels_per_class: at least 1.
        draws: number of labelled sets.
        seed: of the draws.
        train_x, train_y, test_x, test_y, num_classes, l2, steps: as in `linear_probe`.

    Returns:
        Mean and (population) standard deviation of the accuracy over the draws, in [0, 1].

    Raises:
        AssertionError: shapes.
        ValueError: as `linear_probe`; a class with fewer than `labels_per_class` samples.
    """
    _check_options(l2, steps)
    train_x, train_y, test_x, test_y = check_split(train_x, train_y, test_x, test_y, num_classes)
    chosen = _draw(train_y, num_classes, labels_per_class, draws, seed)
    train_x, test_x = _standardise(train_x, test_x)

    # One compiled fit, called per draw: under vmap it compiles for longer than all draws run.
    accuracies = [
        float(_accuracy(train_x[i], train_y[i], test_x, test_y, l2, num_classes, steps))
        for i in chosen
    ]
    return float(np.mean(accuracies)), float(np.std(accuracies))


def _check_options(l2: float, steps: int) -> None:
    if not l2 > 0:
        raise ValueError(f"l2 must be positive; got {l2}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")


def _standardise(train_x: np.ndarray, test_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x_j − mean_j) / sqrt((var_j + mean of var) / 2), by the training set's moments."""
    mean = train_x.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = train_x - mean
    var = np.mean(np.square(centred), axis=0, dtype=np.float64)
    # Dividing by std_j alone blows up what hardly varies, such as a pixel that one image in a
    # thousand touches (and rounding, where a feature is constant).
    scale = np.sqrt((var + var.mean()) / 2).astype(np.float32)
    scale = np.where(scale > 0, scale, np.float32(1))
    return centred / scale, (test_x - mean) / scale


def _draw(
    train_y: np.ndarray, num_classes: int, labels_per_class: int, draws: int, seed: int
) -> np.ndarray:
    """Indices [draws, num_classes · labels_per_class] of the labelled samples."""
    if labels_per_class < 1 or draws < 1:
        raise ValueError(
            "labels_per_class and draws must be at least 1; "
            f"got labels_per_class={labels_per_class}, draws={draws}"
        )
    counts = np.bincount(train_y, minlength=num_classes)
    if counts.min() < labels_per_class:
        short = np.flatnonzero(counts < labels_per_class)
        raise ValueError(
            f"labels_per_class={labels_per_class}, but class {short[0]} has {counts[short[0]]} "
            f"training samples ({len(short)} of {num_classes} classes are short): ask for fewer"
        )
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(train_y == c) for c in range(num_classes)]
    return np.stack(
        [
            np.concatenate([rng.choice(m, labels_per_class, replace=False) for m in members])
            for _ in range(draws)
        ]
    )


@partial(jax.jit, static_argnames="num_classes")
def _accuracy(
    train_x: jax.Array,
    train_y: jax.Array,
    test_x: jax.Array,
    test_y: jax.Array,
    l2: float,
    num_classes: int,
    steps: int,
) -> jax.Array:
    """Accuracy of the fitted model on the test set, both standardised."""
    n, dim = train_x.shape

    # One matrix [dim + 1, num_classes] with the bias as its last row: half the compilation.
    def logits(params: jax.Array, x: jax.Array) -> jax.Array:
        # Accelerators multiply float32 matrices in less than float32 unless told.
        z = jnp.matmul(x, params[:-1], precision=jax.lax.Precision.HIGHEST)
        return z + jnp.broadcast_to(params[-1], z.shape)

    def objective(params: jax.Array) -> jax.Array:  # the mean, for its scale
        nll = optax.softmax_cross_entropy_with_integer_labels(logits(params, train_x), train_y)
        return jnp.mean(nll) + 0.5 * l2 / n * jnp.sum(jnp.square(params[:-1]))

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def unfinished(carry: tuple) -> jax.Array:
        _, state, step, first_norm = carry
        norm = jnp.linalg.norm(optax.tree.get(state, "grad"))
        # Below this the line search only sees the rounding of the objective.
        return (step == 0) | ((step < steps) & (norm > 1e-4 * first_norm))

    def step_once(carry: tuple) -> tuple:
        params, state, step, first_norm = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = solver.update(
            grad, state, params, value=value, grad=grad, value_fn=objective
        )
        first_norm = jnp.where(step == 0, jnp.linalg.norm(grad), first_norm)
        return optax.apply_updates(params, updates), state, step + 1, first_norm

    params = jnp.zeros((dim + 1, num_classes), jnp.float32)
    carry = (params, solver.init(params), jnp.int32(0), jnp.float32(0))
    params, *_ = jax.lax.while_loop(unfinished, step_once, carry)
    return jnp.mean(jnp.argmax(logits(params, test_x), axis=1) == test_y)
