"""Losses, rules and embeddings that several test files loop over."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import alphacl_jax as acl

# name -> the parameters of one loss of each kind, as the constructor and the oracle take them.
FAMILIES = {
    "info_nce": (0.5, 1.0),
    "mine": (),
    "triplet": (0.3,),
    "soft_triplet": (0.6, 0.2),
    "n_plus_one_tuplet": (),
    "lifted_structured": (0.4,),
    "sigmoid": (2.0,),
    "linear": (),
}
EXPONENTIAL = ("info_nce", "mine", "soft_triplet", "n_plus_one_tuplet", "lifted_structured")

RULES = {
    "direct": (0.5, 4),
    "entropy": (0.3,),
    "inverse": (0.5, 2.0),
    "square": (0.7,),
    "uniform": (),
    "reference_inverse": (0.5, 2.0),
}


def family(name, *parameters):
    return getattr(acl.families, name)(*(parameters or FAMILIES[name]))


def rule(name, *parameters):
    return getattr(acl.rules, name)(*(parameters or RULES[name]))


def regularized(name, tau, gamma=2.0):
    """The regularisers with a closed form, as somebody would write them by hand."""
    if name == "entropy":
        return acl.rules.regularized(
            lambda x: jnp.exp(-x / (2 * tau) - 1), domain=(-math.inf, math.inf)
        )
    if name == "inverse":
        return acl.rules.regularized(lambda x: (2 * tau / x) ** (1 / gamma), domain=(0.0, math.inf))
    assert name == "square"
    return acl.rules.regularized(lambda x: -x / tau, domain=(-math.inf, 0.0))


def smooth_family():
    """A user's own family."""
    return acl.Family(phi=lambda x: x**1.5, psi=lambda x: jax.nn.softplus(3 * x))


def objectives(tau=None):
    """name -> loss(z, z_pos, **options): each family, each rule, the last two as backprop α too.

    With tau, everything that has a temperature gets that one.
    """

    def at(name, parameters):
        has_temperature = name in RULES or name in ("info_nce", "soft_triplet")
        replaced = tau is not None and parameters and has_temperature
        return (tau, *parameters[1:]) if replaced else parameters

    def loss_of(family):
        return lambda z, z_pos, **k: acl.contrastive_loss(z, z_pos, family, **k)

    def alpha_cl_of(rule, stop_gradient):
        return lambda z, z_pos, **k: acl.alpha_cl_loss(
            z, z_pos, rule, stop_gradient=stop_gradient, **k
        )

    families = {name: family(name, *at(name, p)) for name, p in FAMILIES.items()}
    rules = {name: rule(name, *at(name, p)) for name, p in RULES.items()}
    rules["direct_small_power"] = acl.rules.direct(0.5 if tau is None else tau, 1.3)
    rules["regularized"] = regularized("inverse", 0.5 if tau is None else tau)
    rules["from_family"] = acl.rules.from_family(families["lifted_structured"])
    table = {name: loss_of(f) for name, f in families.items()}
    table["user_family"] = loss_of(smooth_family())
    for name, r in rules.items():
        table[f"alpha_{name}"] = alpha_cl_of(r, True)
        table[f"backprop_{name}"] = alpha_cl_of(r, False)
    return table


def views(seed, n, dim, dtype=np.float64, unit=False):
    """Two random views that resemble each other, `[n, dim]` each."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(n, dim))
    z_pos = z + 0.4 * generator.normal(size=(n, dim))
    if unit:
        z, z_pos = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (z, z_pos))
    return np.asarray(z, dtype), np.asarray(z_pos, dtype)


def layouts(seed, n, dim, dtype=np.float64):
    """name -> `negatives`, of every kind that there is."""
    generator = np.random.default_rng(seed + 1000)
    array = np.asarray(generator.normal(size=(n + 1, dim)), dtype)
    mask = generator.random((n, n + 1)) < 0.6
    mask[:, 0] |= ~mask.any(axis=1)
    return {
        "both_views": "both_views",
        "same_view": "same_view",
        "cross_view": "cross_view",
        "explicit": array,
        "masked": (array, mask),
    }
