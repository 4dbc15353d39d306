"""Agreement with published code.

golden/author_losses.npz was computed by the paper's published PyTorch losses in float64 on random
unit vectors: z1, z2 `[24, 16]`; per case its loss and both gradients. Its similarity is the dot
product of unit vectors, ours a distance, so gradients are compared along the sphere: each row's
radial part is removed from both.
"""

from pathlib import Path

import jax
import numpy as np
import pytest

import alphacl_jax as acl

GOLDEN = Path(__file__).parent / "golden" / "author_losses.npz"
CASES = [
    f"{name}_tau{tau}"
    for tau in ("0.5", "0.1")
    for name in ("ntxent", "entropy", "direct_p4", "direct_p6", "inverse_g1", "inverse_g2")
] + ["quadratic_loss_tau0.5"]


def tangent(gradient, z):
    return gradient - np.sum(gradient * z, axis=1, keepdims=True) * z


def loss_of(z, z_pos, tau, name):
    if name == "ntxent":
        return acl.contrastive_loss(z, z_pos, acl.families.info_nce(tau, 1.0)) / tau
    rule = {
        "entropy": acl.rules.entropy(tau),
        "direct_p4": acl.rules.direct(tau, 4),
        "direct_p6": acl.rules.direct(tau, 6),
        "inverse_g1": acl.rules.reference_inverse(tau, 1),
        "inverse_g2": acl.rules.reference_inverse(tau, 2),
        # Mean cosine of negatives less that of positives: every negative with the same weight.
        "quadratic_loss": acl.rules.uniform(),
    }[name]
    return acl.alpha_cl_loss(z, z_pos, rule)


value_and_grad = jax.jit(jax.value_and_grad(loss_of, argnums=(0, 1)), static_argnames="name")


def test_cases_are_all_of_the_file():
    with np.load(GOLDEN) as figures:
        names = {k.removesuffix("_loss") for k in figures if k.endswith("_loss")}
    assert names == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients(case, x64):
    with np.load(GOLDEN) as figures:
        z1, z2 = figures["z1"], figures["z2"]
        want = figures[f"{case}_loss"]
        want_gradients = [figures[f"{case}_grad1"], figures[f"{case}_grad2"]]
    name, tau = case.split("_tau")
    value, gradients = value_and_grad(z1, z2, float(tau), name=name)
    np.testing.assert_allclose(value, want, rtol=0, atol=1e-9)
    for z, ours, theirs in zip((z1, z2), gradients, want_gradients, strict=True):
        assert np.abs(tangent(theirs, z)).max() > 1e-4
        np.testing.assert_allclose(tangent(ours, z), tangent(theirs, z), rtol=0, atol=1e-9)
