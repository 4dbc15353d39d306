"""What the script on dimensional collapse computes: networks under fixed α, and trained ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import alphacl_jax as acl
from alphacl_jax.evaluation.spectrum import singular_values
from alphacl_jax.theory.linear_networks import collapse, pca
from experiments.theory.lab import require_finite_loss

_COLLAPSED = 1e-3  # an embedding dimension counts as lost below this part of the largest variance
GROWTH = 100.0  # of the product, at which depths are compared
_FIXED_START = 0.1  # scale of the layers under fixed α: small, as the theory has it

Start = Callable[[Array, int, int], pca.Layers]


@dataclass(frozen=True)
class TwoLayers:
    """The flow of two layers under fixed α, from several starts; arrays `[seeds, steps, ...]`.

    Attributes:
      times: t.
      sigma1: singular values of W_1.
      sigma2: of W_2.
      measured: d log σ/dt of both layers by differences along the path, `[..., 2, k]`.
      closed: the same by the closed form.
      aligned: |u_1ᵏ·v_2ᵏ|.
      alignments: the whole matrices, of the first seed.
      energies: E_α.
      product: W_2 W_1.
      drift: the largest change of W_1W_1ᵀ − W_2ᵀW_2, over ‖W_1W_1ᵀ‖.
      arc: the relative change s that the curve is reported at, `[steps]`.
    """

    times: np.ndarray
    sigma1: np.ndarray
    sigma2: np.ndarray
    measured: np.ndarray
    closed: np.ndarray
    aligned: np.ndarray
    alignments: np.ndarray
    energies: np.ndarray
    product: np.ndarray
    drift: float
    arc: np.ndarray


@dataclass(frozen=True)
class Inputs:
    """What samples and their augmentation are.

    Attributes:
      dim: of a sample.
      block: dimensions that augmentation can be strong in.
      weak: variance of the noise in the others.
    """

    dim: int
    block: int
    weak: float


def views(key: Array, inputs: Inputs, noise: float, samples: int) -> tuple[Array, Array]:
    """A batch whose augmentation has the variance `noise` in the block and `weak` elsewhere."""
    variances = jnp.linspace(1.4, 0.6, inputs.dim)
    # The block is spread over small and large variances.
    order = np.random.default_rng(0).permutation(inputs.dim)
    noise_variances = np.full(inputs.dim, inputs.weak)
    noise_variances[order[: inputs.block]] = noise
    return pca.gaussian_views(key, variances, jnp.asarray(noise_variances), samples)


@dataclass(frozen=True)
class Spectra:
    """Batches under augmentation of several strengths, and their X_α = C_α[x].

    Attributes:
      strengths: noise variances in the block, the weakest first.
      batches: strength → both views, `[samples, dim]` each.
      eigenvalues: what α is → strength → eigenvalues of X, the largest first.
      positive: X of uniform α under weak augmentation, without negative eigenvalues.
      indefinite: X of InfoNCE's α under strong augmentation, which has some.
    """

    strengths: Sequence[float]
    batches: dict[float, tuple[Array, Array]]
    eigenvalues: dict[str, dict[float, np.ndarray]]
    positive: Array
    indefinite: Array


@dataclass(frozen=True)
class FixedImportance:
    """Networks under fixed α.

    Attributes:
      single: of one layer, by augmentation, as `one_layer` gives it.
      double: of two layers, where X has no negative eigenvalue.
      relative: singular values of either depth's product, at `GROWTH`-fold growth.
    """

    single: dict[str, dict[str, np.ndarray]]
    double: TwoLayers
    relative: dict[str, np.ndarray]


def input_spectra(key: Array, inputs: Inputs, strengths: Sequence[float], samples: int) -> Spectra:
    """X_α by strength, by uniform α and InfoNCE's, and by uniform α of 16 times the samples."""
    rules = {"uniform α": acl.rules.uniform(), "InfoNCE's α": acl.rules.entropy(1.0)}
    batches = {noise: views(key, inputs, noise, samples) for noise in strengths}
    matrices = {
        name: {noise: pca.input_covariance(*batch, rule) for noise, batch in batches.items()}
        for name, rule in rules.items()
    }
    many = {noise: views(key, inputs, noise, 16 * samples) for noise in strengths}
    of_many = {
        noise: pca.input_covariance(*batch, rules["uniform α"]) for noise, batch in many.items()
    }
    return Spectra(
        strengths,
        batches,
        {
            name: {noise: np.linalg.eigvalsh(x)[::-1] for noise, x in by_noise.items()}
            for name, by_noise in [*matrices.items(), ("uniform α, 16 times the samples", of_many)]
        },
        positive=matrices["uniform α"][strengths[0]],
        indefinite=matrices["InfoNCE's α"][strengths[-1]],
    )


def fixed_importance(keys: Array, spectra: Spectra, steps: int) -> FixedImportance:
    """The flows of one and two layers, from a start by each key."""
    single = {
        "strong augmentation": one_layer(keys, spectra.indefinite, steps),
        "weak augmentation": one_layer(keys, spectra.positive, steps),
    }
    double = two_layers(keys, spectra.positive, steps)
    relative = {
        "one layer": at_growth(single["weak augmentation"]["product"], GROWTH),
        "two layers": at_growth(double.product, GROWTH),
    }
    return FixedImportance(single, double, relative)


def small_start(keys: Array, dim: int, depth: int, scale: float = 0.3) -> pca.Layers:
    """Gaussian layers of each seed, `[seeds, dim, dim]` each."""
    layers = jax.vmap(lambda key: pca.gaussian_layers(key, (dim,) * (depth + 1)))(keys)
    return tuple(scale * w for w in layers)


def orthonormal_start(keys: Array, dim: int, depth: int) -> pca.Layers:
    """Orthonormal layers of each seed, so that no direction is ahead: `[seeds, dim, dim]` each."""
    return tuple(jax.vmap(pca.orthonormalize)(w) for w in small_start(keys, dim, depth))


def one_layer(keys: Array, x_alpha: Array, steps: int) -> dict[str, np.ndarray]:
    """One layer under fixed α: times, singular values by solver and closed form, energies."""
    (w,) = small_start(keys, x_alpha.shape[0], 1, _FIXED_START)
    eigenvalues = jnp.linalg.eigvalsh(x_alpha)
    # As far as float64 can tell the smallest singular value from the largest one's rounding.
    last = 24.0 / (eigenvalues[-1] - jnp.minimum(eigenvalues[0], 0.0))
    times = jnp.linspace(0.0, last, steps)
    closed = jax.vmap(collapse.one_layer_solution, (0, None, None))(w, x_alpha, times)
    (solved,) = jax.vmap(
        lambda v: collapse.flow(collapse.one_layer_velocity, (v,), x_alpha, times)
    )(w)
    size = jnp.linalg.norm(closed, axis=(2, 3))
    return {
        "times": np.asarray(times),
        "sigma": np.asarray(jnp.linalg.svd(closed, compute_uv=False)),
        "gap": np.asarray(jnp.linalg.norm(solved - closed, axis=(2, 3)) / size),
        "energies": np.asarray(jnp.sum((closed @ x_alpha) * closed, axis=(2, 3))),
        "product": np.asarray(closed),
    }


def two_layers(keys: Array, x_alpha: Array, steps: int) -> TwoLayers:
    """Two layers under fixed α, until they have grown several hundredfold."""
    layers = small_start(keys, x_alpha.shape[0], 2, _FIXED_START)
    arc = jnp.linspace(0.0, 5.0, steps)
    times, (w1, w2) = jax.vmap(
        lambda *w: collapse.relative_flow(collapse.two_layer_velocity, w, x_alpha, arc)
    )(*layers)
    each = partial(jax.vmap, in_axes=(0, 0, None))
    rates = jnp.stack(each(each(collapse.closed_form_rates))(w1, w2, x_alpha), axis=2)
    sigma = jnp.stack([jnp.linalg.svd(w, compute_uv=False) for w in (w1, w2)], axis=2)
    along = np.gradient(np.log(sigma), arc, axis=1)
    pace = np.gradient(np.asarray(times), arc, axis=1)
    matrices = jax.vmap(jax.vmap(collapse.alignment_matrix))(w1, w2)
    product = w2 @ w1
    invariant = w1 @ w1.mT - w2.mT @ w2
    drift = jnp.linalg.norm(invariant - invariant[:, :1], axis=(2, 3))
    return TwoLayers(
        times=np.asarray(times),
        sigma1=np.asarray(sigma[:, :, 0]),
        sigma2=np.asarray(sigma[:, :, 1]),
        measured=along / pace[:, :, None, None],
        closed=np.asarray(rates / sigma),
        aligned=np.asarray(jnp.diagonal(matrices, axis1=2, axis2=3)),
        alignments=np.asarray(matrices[0]),
        energies=np.asarray(jnp.sum((product @ x_alpha) * product, axis=(2, 3))),
        product=np.asarray(product),
        drift=float(jnp.max(drift / jnp.linalg.norm(w1 @ w1.mT, axis=(2, 3)))),
        arc=np.asarray(arc),
    )


def trained(
    keys: Array,
    x: Array,
    x_pos: Array,
    start: Start,
    depth: int,
    *,
    steps: int,
    step_size: float,
) -> dict[str, Any]:
    """Networks trained by InfoNCE: losses, embedding spectra over time, layers at the end.

    Args:
      keys: of the seeds.
      x: first views `[n, dim]`.
      x_pos: second views `[n, dim]`.
      start: makes the layers.
      depth: how many.
      steps: of training, of which the whole 40s are taken.
      step_size: of each.
    """
    layers = start(keys, x.shape[1], depth)
    steps -= steps % 40
    path, losses = jax.vmap(
        lambda w: collapse.train(w, x, x_pos, acl.families.info_nce(1.0), step_size, steps, 40)
    )(layers)
    require_finite_loss(losses, "step_size", step_size, f"with {depth} layers")
    products = np.asarray(jax.vmap(jax.vmap(pca.end_to_end))(path))
    spectra = np.array(
        [[singular_values(np.asarray(x) @ w.T) for w in of_seed] for of_seed in products]
    )
    return {
        "steps": np.linspace(0, steps, 41),
        "losses": np.asarray(losses),
        "spectra": spectra,
        "layers": [np.asarray(w[0, -1]) for w in path],
    }


def lost(spectra: np.ndarray) -> np.ndarray:
    """How many embedding dimensions have collapsed: `[..., dim]` variances → `[...]`."""
    return np.sum(spectra < _COLLAPSED * spectra.max(axis=-1, keepdims=True), axis=-1)


def at_growth(product: np.ndarray, growth: float) -> np.ndarray:
    """Relative singular values of each seed's W when its largest first is `growth` times its start.

    Args:
      product: W over time, `[seeds, steps, outputs, dim]`.
      growth: of the largest singular value.

    Returns:
      `[seeds, dim]`, σ_k/σ_1.
    """
    sigma = np.linalg.svd(product, compute_uv=False)
    reached = sigma[:, :, 0] >= growth * sigma[:, :1, 0]
    if not reached.any(axis=1).all():
        raise ValueError(f"a network has not grown {growth}-fold")
    first = sigma[np.arange(len(sigma)), reached.argmax(axis=1)]
    return first / first[:, :1]
