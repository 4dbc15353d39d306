"""SimCLR moves each layer by a covariance operator that grows what survives augmentation.

For a ReLU network without biases, the negative gradient of any loss of the family equals
Σ_o C_alpha[∂f_o/∂W_l] vec(W_l), exactly; with uniform alpha and many samples C_alpha/Σalpha tends
to 2 V_x0 E[.|x0]. Both are checked, and a small network is followed while it trains: the operator's
norm, and which inputs its eigenvectors and the weights are on (a signal that makes the sample, a
nuisance that augmentation redraws, a constant); with and without false negatives.

  python -m experiments.theory.covariance_operator            # about a minute
  python -m experiments.theory.covariance_operator --quick
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

import alphacl_jax as acl
from alphacl_jax.evaluation.pictures import COLOURS
from alphacl_jax.theory.covariance import operator_training
from alphacl_jax.theory.covariance import operators as theory
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.lab import (
    Lab,
    define_lab_flags,
    in_progress,
    main,
    progress,
    settings_of,
)
from experiments.theory.legends import add_legend

FAMILIES = {
    "InfoNCE": acl.families.info_nce(0.5),
    "MINE": acl.families.mine(),
    "Triplet": acl.families.triplet(0.5),
    "Soft Triplet": acl.families.soft_triplet(0.5, 0.1),
    "N+1 Tuplet": acl.families.n_plus_one_tuplet(),
    "Lifted Structured": acl.families.lifted_structured(1.0),
    "Sigmoid": acl.families.sigmoid(2.0),
    "Linear": acl.families.linear(),
}
_HIDDEN = (6, 5)
_OUTPUTS = 3
_SMALLEST = 32


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    define_lab_flags("covariance_operator", values)
    for name, default, least, text in (
        ("num_seeds", 5, 1, "Networks that are followed while they train."),
        ("bits", 4, 1, "Signs per block of the input: signal, nuisance, constant."),
        ("hidden", 12, 1, "Hidden nodes of the network that is followed."),
        ("batch_size", 128, 2, "Pairs of views per step."),
        ("steps", 400, 20, "Of SGD; a multiple of 20."),
        ("samples", 1024, 2 * _SMALLEST, "The largest batch on the way to the limit."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=least, flag_values=values)
    flags.DEFINE_bool(
        "quick", False, "A quarter of the steps, samples to 256, 2 seeds.", flag_values=values
    )


def gradient_errors(seed: int, bits: int) -> dict[str, list[float]]:
    """Relative error of the operator against autodiff in float64, by loss: one for each layer."""
    with jax.enable_x64(True):
        key_weights, key_views = jax.random.split(jax.random.key(seed))
        sizes = (3 * bits, *_HIDDEN, _OUTPUTS)
        weights = theory.init_relu_network(key_weights, sizes)
        x, x_pos = theory.block_views(key_views, 16, bits)

        def outputs(weights: theory.Weights) -> list[jax.Array]:
            return [theory.relu_network(weights, v) for v in (x, x_pos)]

        def gradient(weights: theory.Weights, family: acl.Family) -> theory.Weights:
            def loss(weights: theory.Weights) -> jax.Array:
                f, f_pos = outputs(weights)
                return acl.contrastive_loss(f, f_pos, family, reduction="sum")

            return jax.grad(loss)(weights)

        @jax.jit
        def by_operator(weights: theory.Weights, alpha: jax.Array) -> list[jax.Array]:
            products = []
            for layer, w in enumerate(weights):
                jacobians, jacobians_pos = (
                    theory.layer_jacobians(theory.relu_network, weights, layer, v)
                    for v in (x, x_pos)
                )
                operator = theory.covariance_operator(jacobians, jacobians_pos, alpha)
                products.append(operator @ w.reshape(-1))
            return products

        by_autodiff = jax.jit(gradient, static_argnums=1)
        importance = jax.jit(acl.pairwise_importance, static_argnums=2)
        f, f_pos = outputs(weights)
        errors: dict[str, list[float]] = {}
        for name in progress(list(FAMILIES), lambda name: f"gradient of {name}"):
            family = FAMILIES[name]
            products = by_operator(weights, importance(f, f_pos, family))
            errors[name] = [
                float(jnp.linalg.norm(p + g.reshape(-1)) / jnp.linalg.norm(g))
                for p, g in zip(products, by_autodiff(weights, family), strict=True)
            ]
    return errors


def limit_errors(seed: int, bits: int, largest: int) -> dict[int, float]:
    """Mean relative distance of C_α/Σα from its limit, by number of samples."""
    key_weights, key_views = jax.random.split(jax.random.key(seed))
    weights = theory.init_relu_network(key_weights, (3 * bits, 6, _OUTPUTS))
    sizes = [2**i for i in range(_SMALLEST.bit_length() - 1, largest.bit_length())]
    run = jax.jit(theory.limit_errors, static_argnums=(2, 3, 4))
    return {
        n: float(jnp.mean(run(jax.random.split(key_views, 16), weights, 0, n, bits)))
        for n in progress(sizes, lambda n: f"{n} samples")
    }


def run(values: flags.FlagValues) -> None:
    lab = Lab(settings_of(values))
    seeds, steps, samples = values.num_seeds, values.steps, values.samples
    if values.quick:
        seeds, steps, samples = min(seeds, 2), max(steps // 4 // 20 * 20, 20), min(samples, 256)
    settings = operator_training.OperatorSettings(
        bits=values.bits,
        hidden=(values.hidden,),
        batch=values.batch_size,
        steps=steps,
        every=20,
    )
    exact = gradient_errors(values.seed, bits=2)
    limit = limit_errors(values.seed, bits=2, largest=samples)
    slope = float(np.polyfit(np.log(list(limit)), np.log(list(limit.values())), 1)[0])
    keys = jax.random.split(jax.random.key(values.seed + 1), seeds)
    follow = jax.jit(jax.vmap(operator_training.watch_operator, (0, None)), static_argnums=1)
    history = in_progress(
        f"{seeds} networks in training, {steps} steps",
        lambda: jax.device_get(follow(keys, settings)),
    )

    gradient_checks = [
        Check(f"{name}, layer {layer + 1}: relative error", 0.0, error, 1e-10)
        for name, errors in exact.items()
        for layer, error in enumerate(errors)
    ]
    limit_checks = [
        Check("exponent of the error in n", -0.5, slope, 0.1),
        Check(f"relative error at n={max(limit)}", 0.15, limit[max(limit)], relation="<"),
    ]
    amplified_checks = amplification_checks(history)
    lab.show(format_checks("−∇L = Σ C_α[∂f/∂W] vec(W), float64", gradient_checks, expected="exact"))
    lab.show("")
    lab.show(format_checks("C_α/Σα → 2 V E[·|x₀]", limit_checks, expected="theory"))
    lab.show("")
    lab.show(
        format_checks(f"what is amplified, {seeds} seed(s)", amplified_checks, expected="theory")
    )
    lab.picture("covariance_operator.png", picture(limit, history, steps))
    lab.finish(
        {
            "gradient_errors": exact,
            "limit_errors": {str(n): e for n, e in limit.items()},
            "looks_every": settings.every,
            "history": {name: v.tolist() for name, v in history._asdict().items()},
        },
        {"gradient": gradient_checks, "limit": limit_checks, "amplified": amplified_checks},
        conclusion(history, [*gradient_checks, *limit_checks, *amplified_checks]),
    )


def conclusion(
    history: operator_training.OperatorHistory, checks: Sequence[Check]
) -> tuple[str, str]:
    """What the run has shown, the second sentence in means over seeds."""
    signal = theory.BLOCKS.index("signal")
    top, apart, weights = (
        np.asarray(v)[:, :, signal].mean(axis=0)
        for v in (history.top_mass, history.apart_mass, history.weight_mass)
    )
    return (
        agreement(checks, "rows", "agree with the theory"),
        f"From the first to the last look at training, the signal's part went from {top[0]:.2f} "
        f"to {top[-1]:.2f} in the operator's top eigenvector, from {apart[0]:.2f} to "
        f"{apart[-1]:.2f} in that without false negatives, and from {weights[0]:.2f} to "
        f"{weights[-1]:.2f} in the first layer's weights.",
    )


def amplification_checks(history: operator_training.OperatorHistory) -> list[Check]:
    """Which block of the input the operator and the weights are on, over seeds."""
    signal, nuisance, _ = range(len(theory.BLOCKS))
    seeds = len(history.norm)

    def count(name: str, holds: ArrayLike) -> Check:
        return Check(f"seeds where {name}", seeds, int(np.count_nonzero(holds)))

    start_top, start_bottom = history.top_mass[:, 0], history.bottom_mass[:, 0]
    start, end = history.weight_mass[:, 0], history.weight_mass[:, -1]
    return [
        count(
            "the top eigenvector at the start is mostly on the signal",
            start_top[:, signal] > 0.5,
        ),
        count(
            "the lowest one is more on the nuisance than the signal",
            start_bottom[:, nuisance] > start_bottom[:, signal],
        ),
        count(
            "the top one at the end, without false negatives in alpha, is on the signal",
            history.apart_mass[:, -1, signal] > 0.5,
        ),
        count(
            "false negatives hold most of alpha at the end, and did not at the start",
            (history.false_share[:, 0] < 0.5) & (history.false_share[:, -1] > 0.5),
        ),
        count("training raises the weights' mass on the signal", end[:, signal] > start[:, signal]),
        count(
            "training lowers the weights' mass on the nuisance",
            end[:, nuisance] < start[:, nuisance],
        ),
    ]


def picture(
    limit: dict[int, float], history: operator_training.OperatorHistory, steps: int
) -> Figure:
    """Error of the limit, the operator's norm, eigenvectors by block, weights by block."""
    figure = Figure(figsize=(12.0, 7.6), layout="constrained")
    (error_ax, norm_ax), (top_ax, weight_ax) = figure.subplots(2, 2)
    sizes, errors = np.array(list(limit)), np.array(list(limit.values()))
    error_ax.loglog(sizes, errors, "o-", color=COLOURS[0], label="measured")
    line = errors[0] * np.sqrt(sizes[0] / sizes)
    error_ax.loglog(sizes, line, "--", color=COLOURS[8], label=r"slope of $1/\sqrt{n}$")
    error_ax.set(
        title=r"Uniform $\alpha$: $C_\alpha/\Sigma\alpha \to 2\,V_{x_0}E[\cdot|x_0]$",
        xlabel="samples n",
        ylabel="relative error",
    )
    add_legend(error_ax)
    times = np.arange(history.norm.shape[1]) * steps // history.norm.shape[1]
    mark = "." if len(times) == 1 else None  # a line of one point would not be seen
    for norm in history.norm:
        norm_ax.plot(
            times, norm, marker=mark, color=COLOURS[0], linewidth=1, label="one line per seed"
        )
    norm_ax.set(
        title="The operator's norm over training (InfoNCE)",
        xlabel="training step",
        ylabel="largest |eigenvalue| per anchor",
    )
    norm_ax.set_ylim(bottom=0)
    add_legend(norm_ax)
    _block_lines(top_ax, times, history.top_mass)
    apart = np.asarray(history.apart_mass)[:, :, 0].mean(axis=0)
    label = "signal, without false negatives"
    top_ax.plot(times, apart, "--", marker=mark, color=COLOURS[0], label=label)
    add_legend(top_ax, fontsize="small")
    top_ax.set(title="Top eigenvector of the operator", ylabel="part of its squared norm")
    _block_lines(weight_ax, times, history.weight_mass)
    add_legend(weight_ax, fontsize="small")
    weight_ax.set(title="First-layer weights", ylabel="part of their squared norm")
    for ax in (error_ax, norm_ax, top_ax, weight_ax):
        ax.grid(alpha=0.3)
    return figure


def _block_lines(ax: Axes, times: np.ndarray, mass: ArrayLike) -> None:
    what = (
        "signal: makes the sample",
        "nuisance: redrawn by augmentation",
        "constant: never varies",
    )
    for block, (colour, label) in enumerate(zip(COLOURS, what, strict=False)):
        values = np.asarray(mass)[:, :, block]
        mark = "." if len(times) == 1 else None
        ax.plot(times, values.mean(axis=0), marker=mark, color=colour, label=label)
        ax.fill_between(times, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2)
    ax.set(xlabel="training step", ylim=(0, 1))


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
