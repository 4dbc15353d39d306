"""A two-layer network turns its filters to what tells a hidden binary variable apart.

Nobody names the variable z: given z the receptive fields are independent, and the gradient of
each filter gets, beside its own field's covariance, a term along Δ_k, the difference of the
field's means under z = 0 and z = 1. The script compares that dynamics with autodiff, with the
gradient of sampled networks and with their training; measures the basin of attraction that the
term enlarges (Theorem 4); and shows that all filters of one field get co-linear gradients from a
linear activation, and not from ReLU.

    python -m experiments.theory.global_modulation
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from alphacl_jax.theory.nonlinear import basins, modulation
from alphacl_jax.theory.nonlinear.activations import LINEAR, RELU, leaky_relu
from experiments.theory import global_modulation_pictures as pictures
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.lab import Lab, define_lab_flags, main, progress, settings_of

_ACTIVATIONS = {"linear": LINEAR, "ReLU": RELU, "leaky ReLU": leaky_relu(0.1)}
_STEP = 0.25
_STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_BASIN_DIMS = (2, 8)
_BASIN_STARTS = 8000
_NUM_DRAWS = 16


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of this script on `values`."""
    define_lab_flags("global_modulation", values)
    for name, default, lowest, text in (
        ("fields", 4, 2, "Receptive fields of the network."),
        ("values", 32, 2, "Values that one field can show."),
        ("dim", 4, 2, "Dimension of a field."),
        ("filters", 6, 2, "Filters of one field, where gradients are compared between them."),
        ("samples", 2048, 64, "Samples of the largest network; its limit is infinitely many."),
        ("steps", 160, 1, f"Training steps of the network, each of {_STEP} units of time."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=lowest, flag_values=values)
    flags.DEFINE_float(
        "prior", 0.3, "p1, the probability that the hidden variable is 1.", flag_values=values
    )
    flags.DEFINE_float(
        "tilt", 2.0, "How far the values of a field depend on the hidden variable.",
        lower_bound=0.0, flag_values=values,
    )  # fmt: skip


def run(values: flags.FlagValues) -> None:
    """Runs the experiment with these flags."""
    lab = Lab(settings_of(values))
    # Closed forms are compared to rounding, and small samples' eigenvalues lie close together.
    with jax.enable_x64(True):
        key = jax.random.key(values.seed)
        fields = modulation.tilted_fields(
            jax.random.fold_in(key, 0),
            num_fields=values.fields,
            num_values=values.values,
            dim=values.dim,
            prior=values.prior,
            tilt=values.tilt,
        )
        parts = {
            "autodiff": lambda key: _against_autodiff(key, fields),
            "samples": lambda key: _against_networks(key, fields, values.samples),
            "training": lambda key: _against_training(key, fields, values.samples, values.steps),
            "basins": _basins,
            "gradients": lambda key: _gradients(key, fields, values.filters, values.samples),
        }
        results: dict[str, Any] = {}
        checks: dict[str, list[Check]] = {}
        for number, name in enumerate(progress(list(parts), str), 1):
            results[name], checks[name] = parts[name](jax.random.fold_in(key, number))
    for name, rows in checks.items():
        lab.show(format_checks(name, rows, expected="theory") + "\n")
    lab.picture("trajectories.png", pictures.draw_trajectories(results["training"]))
    lab.picture("samples.png", pictures.draw_samples(results["samples"]))
    lab.picture("basins.png", pictures.draw_basins(results["basins"]))
    lab.picture("gradients.png", pictures.draw_gradients(results["gradients"]))
    rows = [check for of_one in checks.values() for check in of_one]
    lab.finish(results, checks, conclusion(results, rows))


def conclusion(results: Mapping[str, Any], checks: Sequence[Check]) -> tuple[str, str]:
    """What the run has shown."""
    training, dim = results["training"], f"dim {_BASIN_DIMS[-1]}"
    network, flow = (training[f"energy of the {name}"][-1] for name in ("network", "flow"))
    found = results["basins"][dim]["found"]
    return (
        agreement(checks, "rows", "agree with the theory"),
        f"The trained network ended at an energy λ of {network:.3g} beside the flow's {flow:.3g}, "
        f"and modulation of strength {_STRENGTHS[-1]} took a pattern's basin from {found[0]:.3f} "
        f"to {found[-1]:.3f} of the sphere ({dim}).",
    )


def _filters(key: jax.Array, *shape: int) -> jax.Array:
    w = jax.random.normal(key, shape)
    return w / jnp.linalg.norm(w, axis=-1, keepdims=True)


def _against_autodiff(
    key: jax.Array, fields: modulation.Fields
) -> tuple[dict[str, float], list[Check]]:
    """The formula beside ½ ∂λ/∂w by autodiff, at 16 random W."""
    count, _, dim = fields.values.shape
    w = _filters(key, 16, count, dim)
    results, checks = {}, []
    for name, activation in _ACTIVATIONS.items():
        ours = jax.vmap(lambda w, a=activation: modulation.modulated_field(w, fields, a))(w)
        half = jax.vmap(
            jax.grad(lambda w, a=activation: 0.5 * modulation.population_energy(w, fields, a))
        )(w)
        results[name] = float(jnp.max(jnp.abs(ours - half)) / jnp.max(jnp.abs(half)))
        checks.append(Check(f"{name}: largest |dw/dt − ½∂λ/∂w|", 0.0, results[name], 1e-9))
    return results, checks


def _against_networks(
    key: jax.Array, fields: modulation.Fields, largest: int
) -> tuple[dict[str, list[float]], list[Check]]:
    """The formula beside the gradient of ReLU networks on ever more samples."""
    count, _, dim = fields.values.shape
    w = _filters(jax.random.fold_in(key, 0), count, dim)
    limit = modulation.modulated_field(w, fields, RELU)
    sizes = [largest // 16, largest // 4, largest]

    def error(key: jax.Array, size: int) -> jax.Array:
        x = modulation.sample_fields(key, fields, size)
        difference = modulation.network_gradient(w, x, RELU) - limit
        return jnp.linalg.norm(difference) / jnp.linalg.norm(limit)

    keys = jax.random.split(jax.random.fold_in(key, 1), _NUM_DRAWS)
    errors = [np.asarray(jax.lax.map(lambda key, n=size: error(key, n), keys)) for size in sizes]
    mean = [float(e.mean()) for e in errors]
    slope = float(np.polyfit(np.log(sizes), np.log(mean), 1)[0])
    checks = [
        Check("exponent of the error in the samples", -0.5, slope, 0.2),
        Check(f"relative error at {sizes[-1]} samples", 0.2, mean[-1], relation="<"),
    ]
    return {
        "samples": [float(n) for n in sizes],
        "mean": mean,
        "std": [float(e.std()) for e in errors],
    }, checks


def _against_training(
    key: jax.Array, fields: modulation.Fields, samples: int, steps: int
) -> tuple[dict[str, Any], list[Check]]:
    """The integrated dynamics beside a ReLU network's training on samples."""
    count, _, dim = fields.values.shape
    w = _filters(jax.random.fold_in(key, 0), count, dim)
    x = modulation.sample_fields(jax.random.fold_in(key, 1), fields, samples)
    times = _STEP * jnp.arange(steps + 1.0)
    flow = modulation.integrate(w, times, fields, RELU)
    network = modulation.train_network(w, x, RELU, step=_STEP, num_steps=steps)
    energies = [
        jax.lax.map(lambda w: modulation.population_energy(w, fields, RELU), path)
        for path in (flow, network)
    ]
    angles = jnp.arccos(jnp.clip(jnp.sum(flow * network, axis=-1), -1.0, 1.0))
    differences = modulation.gated_moments(w, fields, LINEAR).between
    differences = differences / jnp.linalg.norm(differences, axis=1, keepdims=True)
    cosines = [jnp.abs(jnp.sum(path * differences[None], axis=-1)) for path in (flow, network)]
    ends = [float(e[-1]) for e in energies]
    rise = ends[0] - float(energies[0][0])
    checks = [
        Check("largest angle between flow and network, median over time (rad)", 0.2,
              float(jnp.median(jnp.max(angles, axis=1))), relation="<"),
        Check("λ at the end: network beside flow", ends[0], ends[1], 0.05 * abs(ends[0])),
        Check("λ of the flow never falls: smallest step up", -1e-6,
              float(jnp.min(jnp.diff(energies[0]))), relation=">"),
        Check("λ rises: end less start", 0.0, rise, relation=">"),
        Check("mean |cos(w_k, E[x_k|z=1] − E[x_k|z=0])| of the network rises", 0.0,
              float(jnp.mean(cosines[1][-1] - cosines[1][0])), relation=">"),
    ]  # fmt: skip
    return {
        "times": np.asarray(times).tolist(),
        "flow": np.asarray(flow).tolist(),
        "network": np.asarray(network).tolist(),
        "cosines of the flow": np.asarray(cosines[0]).tolist(),
        "cosines of the network": np.asarray(cosines[1]).tolist(),
        "angles": np.asarray(angles).tolist(),
        "energy of the flow": np.asarray(energies[0]).tolist(),
        "energy of the network": np.asarray(energies[1]).tolist(),
    }, checks


def _basins(key: jax.Array) -> tuple[dict[str, Any], list[Check]]:
    """The basin of u_l over the strength c of its modulation, from random starts."""
    members_of = jax.jit(jax.vmap(basins.basin_members, in_axes=(None, 0)))
    results: dict[str, Any] = {"strengths": list(_STRENGTHS)}
    checks = []
    for dim in _BASIN_DIMS:
        starts = jax.random.normal(jax.random.fold_in(key, dim), (_BASIN_STARTS, dim))
        members = np.asarray(members_of(starts, jnp.asarray(_STRENGTHS)))
        found = members.mean(axis=1)
        predicted = [basins.predicted_basin(c, dim) for c in _STRENGTHS]
        for c, basin, closed in zip(_STRENGTHS, found, predicted, strict=True):
            if closed is not None:
                noise = (closed * (1 - closed) / _BASIN_STARTS) ** 0.5
                checks.append(
                    Check(f"dim {dim}, c = {c}: basin of u_l", closed, float(basin), 4 * noise)
                )
        # Theorem 4: each basin lies in the next, and is smaller.
        lost = int((members[:-1] & ~members[1:]).sum())
        checks.append(Check(f"dim {dim}: starts lost as c grows", 0.0, lost))
        checks.append(
            Check(f"dim {dim}: growth at c = {_STRENGTHS[1]}", 0.0,
                  float(found[1] - found[0]), relation=">")
        )  # fmt: skip
        results[f"dim {dim}"] = {"found": found.tolist(), "predicted": predicted}
    return results, checks


def _gradients(
    key: jax.Array, fields: modulation.Fields, filters: int, samples: int
) -> tuple[dict[str, Any], list[Check]]:
    """Singular values of each field's matrix of gradients, one row for each filter."""
    count, _, dim = fields.values.shape
    w = _filters(jax.random.fold_in(key, 0), count, filters, dim)
    x = modulation.sample_fields(jax.random.fold_in(key, 1), fields, samples)
    results, checks = {}, []
    for name, activation in (("linear", LINEAR), ("ReLU", RELU)):
        gradient = modulation.network_gradient(w, x, activation)
        values = np.linalg.svd(np.asarray(gradient), compute_uv=False)
        ratios = values[:, 1] / values[:, 0]
        results[name] = values.tolist()
        if name == "linear":
            check = Check("linear: largest σ₂/σ₁ of a field", 0.0, float(ratios.max()), 1e-9)
        else:
            check = Check("ReLU: smallest σ₂/σ₁ of a field", 1e-3, float(ratios.min()),
                          relation=">")  # fmt: skip
        checks.append(check)
    return results, checks


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
