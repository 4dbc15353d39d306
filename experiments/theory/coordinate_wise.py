"""Descending any loss of the family is alternating between a min player α and a max player θ.

For each of the eight losses, a small network is trained twice from one start: by gradient descent
on the loss with step η, and by alternation, which computes the min player's α exactly and then
ascends the energy by one step of η/2. Printed: how far apart the two trajectories ever are, whether
α is feasible, and, where ψ is an exponential, whether a numerical convex solver finds the same α.

    python -m experiments.theory.coordinate_wise
    python -m experiments.theory.coordinate_wise --steps=200 --seeds=16
"""

import textwrap
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.optimize import minimize

import alphacl_jax as acl
from alphacl_jax.evaluation.pictures import COLOURS
from alphacl_jax.theory.coordinate import alternation
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.lab import Lab, define_lab_flags, main, progress, settings_of
from experiments.theory.legends import seen

LOSSES: dict[str, acl.Family] = {
    "InfoNCE": acl.families.info_nce(),
    "MINE": acl.families.mine(),
    "Triplet": acl.families.triplet(),
    "Soft Triplet": acl.families.soft_triplet(margin=0.5),  # with margin 0 it is InfoNCE
    "N+1 Tuplet": acl.families.n_plus_one_tuplet(),
    "Lifted Structured": acl.families.lifted_structured(),
    "Sigmoid": acl.families.sigmoid(),
    "Linear": acl.families.linear(),
}
_WIDTHS = (8, 16, 4)
_NOISE = 0.5  # standard deviation of a view around its sample, whose own is 1


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    define_lab_flags("coordinate_wise", values)
    integer = partial(flags.DEFINE_integer, flag_values=values)
    integer("seeds", 4, "Networks and batches per loss.", lower_bound=1)
    integer("samples", 16, "Samples in the batch.", lower_bound=2)
    integer("steps", 50, "Steps of each trajectory.", lower_bound=1)
    flags.DEFINE_float(
        "step_size",
        0.001,
        "η, of a descent step on the loss. Where it is too large for descent to be stable, the "
        "differences of rounding grow from step to step.",
        lower_bound=0.0,
        flag_values=values,
    )


@partial(jax.jit, static_argnames=("family", "steps", "samples"))
def both_forms(
    keys: Array, family: acl.Family, step_size: float, steps: int, samples: int
) -> dict[str, Array]:
    """Both trajectories of each seed, and the batch and α at their end."""

    def one(key: Array) -> dict[str, Array]:
        k_params, k_x, k_noise = jax.random.split(key, 3)
        params = alternation.mlp_params(k_params, _WIDTHS)
        x0 = jax.random.normal(k_x, (samples, _WIDTHS[0]))
        noise = _NOISE * jax.random.normal(k_noise, (2, *x0.shape))
        x, x_pos = x0 + noise[0], x0 + noise[1]
        arguments = (alternation.mlp, params, x, x_pos, family, step_size, steps)
        descent, losses = alternation.descend(*arguments)
        alternated, energies = alternation.alternate(*arguments)
        final = jax.tree.map(lambda p: p[-1], descent)
        return {
            "descent": _flat(descent),
            "alternation": _flat(alternated),
            "losses": losses,
            "energies": energies,
            "z": alternation.mlp(final, x),
            "z_pos": alternation.mlp(final, x_pos),
            "alpha": alternation.min_player(alternation.mlp, final, x, x_pos, family),
        }

    return jax.vmap(one)(keys)


def _flat(path: list[Array]) -> Array:
    return jnp.concatenate([p.reshape(p.shape[0], -1) for p in path], axis=1)


def solve_row(d_pos: float, d_neg: np.ndarray, temperature: float, budget: float) -> np.ndarray:
    """The min player's row by SLSQP, from equal weights: argmin E − R over the budget, `[m]`."""

    # In units of the budget: the solver's tolerances are absolute.
    def objective(share: np.ndarray) -> tuple[float, np.ndarray]:
        cost = 2 * (d_neg - d_pos) + 2 * temperature * np.log(budget * share)
        return float(share @ cost), cost + 2 * temperature

    solved = minimize(
        objective,
        np.full(len(d_neg), 1 / len(d_neg)),
        jac=True,
        method="SLSQP",
        bounds=[(1e-12, None)] * len(d_neg),  # the entropy has no derivative at 0
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return budget * solved.x


def min_player_gaps(found: Mapping[str, np.ndarray], family: acl.Family) -> dict[str, float]:
    """α of the first seed beside the feasible set and, for each row, beside the solver's answer."""
    temperature = float(alternation.exponential_temperature(family))  # type: ignore[arg-type]
    z, z_pos, alpha = (found[name][0] for name in ("z", "z_pos", "alpha"))
    budgets = np.asarray(alternation.budgets(z, z_pos, family))
    d_neg = np.asarray(acl.squared_distances(z))
    d_pos = 0.5 * np.sum((z - z_pos) ** 2, axis=1)
    apart, excess = [0.0], [0.0]
    for i, budget in enumerate(budgets):
        if budget < 1e-12:  # the hinge of Lifted Structured is closed: α = 0 is all there is
            continue
        others = np.arange(len(z)) != i
        solved = solve_row(d_pos[i], d_neg[i, others], temperature, budget)
        ours = alpha[i, others]
        values = alternation.min_player_objective(
            jnp.stack([ours, solved]), d_pos[i], jnp.asarray(d_neg[i, others])[None], temperature
        )
        apart.append(np.max(np.abs(ours - solved)) / budget)
        excess.append(float(values[0] - values[1]) / budget)
    return {
        "budget": float(np.max(np.abs(alpha.sum(1) - budgets))),
        "apart": float(max(apart)),
        "excess": float(max(excess)),
    }


def checks_of(name: str, family: acl.Family, found: Mapping[str, np.ndarray]) -> list[Check]:
    """The rows of one loss."""
    gap = np.max(np.abs(found["descent"] - found["alternation"]))
    moved = np.min(np.linalg.norm(found["descent"][:, -1] - found["descent"][:, 0], axis=1))
    rows = [
        Check(f"{name}: largest difference of the trajectories", 0.0, float(gap), 1e-10),
        Check(f"{name}: distance travelled by the slowest seed", 1e-2, float(moved), relation=">"),
        Check(f"{name}: smallest α_ij", -1e-15, float(found["alpha"].min()), relation=">"),
    ]
    if alternation.exponential_temperature(family) is not None:
        gaps = min_player_gaps(found, family)
        rows += [
            Check(f"{name}: Σ_j α_ij beside τ⁻¹ξ_iφ'(ξ_i)", 0.0, gaps["budget"], 1e-10),
            Check(f"{name}: α beside SLSQP's, per budget", 0.0, gaps["apart"], 1e-5),
            Check(f"{name}: E−R over SLSQP's, per budget", 1e-9, gaps["excess"], relation="<"),
        ]
    return rows


def run(values: flags.FlagValues) -> None:
    lab = Lab(settings_of(values))
    found: dict[str, dict[str, np.ndarray]] = {}
    checks: list[Check] = []
    # The claim is equality to float64's rounding.
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(values.seed), values.seeds)
        for name in progress(list(LOSSES), str):
            outcome = both_forms(keys, LOSSES[name], values.step_size, values.steps, values.samples)
            found[name] = {k: np.asarray(v) for k, v in outcome.items()}
            checks += checks_of(name, LOSSES[name], found[name])
    lab.show(format_checks("coordinate-wise optimisation", checks, expected="expected"))
    lab.picture("trajectories.png", draw_trajectories(found))
    lab.picture("differences.png", draw_differences(found))
    kept = ("losses", "energies")
    results: dict[str, Any] = {
        name: {
            **{k: f[k].tolist() for k in kept},
            "differences": _differences(f).tolist(),
        }
        for name, f in found.items()
    }
    lab.finish(results, {"coordinate-wise optimisation": checks}, conclusion(found, checks))


def conclusion(
    found: Mapping[str, Mapping[str, np.ndarray]], checks: list[Check]
) -> tuple[str, str]:
    """What the run has shown."""
    apart = max(float(_differences(f).max()) for f in found.values())
    of_one = next(iter(found.values()))["descent"]
    return (
        agreement(checks, "rows", "are as the theory has them"),
        f"Of {len(found)} losses with {len(of_one)} network(s) each and {of_one.shape[1] - 1} "
        f"steps, descent and alternation differ in no parameter by more than {apart:.1e}.",
    )


def _differences(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """The largest difference of any parameter, by seed and step."""
    return np.max(np.abs(found["descent"] - found["alternation"]), axis=2)


def draw_trajectories(found: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Both trajectories of each loss's first seed, in the plane in which they move most."""
    figure = Figure(figsize=(12.0, 6.2), layout="constrained")
    for ax, (name, f) in zip(figure.subplots(2, 4).flat, found.items(), strict=True):
        origin = f["descent"][0, :1]
        _, _, axes = np.linalg.svd(f["descent"][0] - origin, full_matrices=False)
        line, dots = ((f[form][0] - origin) @ axes[:2].T for form in ("descent", "alternation"))
        every = max(1, len(dots) // 12)
        ax.plot(*line.T, color=COLOURS[0], linewidth=2, label="descent on $L$, step $\\eta$")
        ax.plot(
            *dots[::every].T,
            "o",
            color=COLOURS[2],
            markerfacecolor="none",
            label=f"alternation, step $\\eta/2$ (each {every}th)" if every > 1 else "alternation",
        )
        ax.plot(0, 0, "s", color="black", markersize=5, label="start")
        ax.set_title(name)
        ax.tick_params(labelsize=7)
        ax.grid(alpha=0.3)
    figure.supxlabel("parameters along the trajectory's first principal direction")
    figure.supylabel("second")
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def draw_differences(found: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """How far apart the two trajectories are at each step, worst seed."""
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    ax = figure.subplots()
    for (name, f), colour in zip(found.items(), COLOURS, strict=False):
        worst = _differences(f).max(axis=0)
        ax.plot(np.where(worst > 0, worst, np.nan), ".-", color=colour, label=name, markersize=4)
    ax.axhline(float(np.finfo(np.float64).eps), color="black", linestyle=":")
    ax.annotate(
        "float64's ε",
        (0.99, np.finfo(np.float64).eps),
        xycoords=("axes fraction", "data"),
        xytext=(0, -3),
        textcoords="offset points",
        ha="right",
        va="top",
    )
    ax.set(
        xlabel="step",
        ylabel="largest difference of a parameter",
        yscale="log",
    )
    # A difference of exactly 0 has no place on a log axis.
    exact = [name for name, f in found.items() if not _differences(f).any()]
    figure.suptitle("Descent on the loss and alternation: the same trajectory")
    if exact:
        ax.set_title(textwrap.fill(f"exactly 0: {', '.join(exact)}", 60), fontsize=9)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    figure.legend(*seen(ax), loc="outside right center", frameon=False)
    return figure


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
