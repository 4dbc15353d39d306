"""Differential equations: against their solution, and where diffrax is missing."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.flows import solve_adaptively, solve_in_steps
from alphacl_jax.theory.linear_networks import collapse
from alphacl_jax.theory.nonlinear import modulation
from alphacl_jax.theory.nonlinear.activations import RELU

RATES = np.array([-1.0, 0.5])


def solutions(at):
    """Of dy/dt = rate·y from 1, by both methods."""

    def field(y):
        return {"y": jnp.asarray(RATES) * y["y"]}

    start = {"y": jnp.ones(2)}
    return (
        solve_adaptively("a test", field, start, at, rtol=1e-9, atol=1e-12)["y"],
        solve_in_steps("a test", field, start, at, step=0.01)["y"],
    )


def test_both_methods_find_an_exponential(x64):
    at = jnp.asarray([0.0, 0.5, 2.0])
    for found in solutions(at):
        np.testing.assert_allclose(found, np.exp(np.outer(at, RATES)), rtol=1e-7)


def test_without_diffrax_a_flow_says_what_to_install(monkeypatch, x64):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    layers, x_alpha = (jnp.eye(2),), jnp.eye(2)
    message = r"^the flow of linear networks needs diffrax: pip install 'alphacl_jax\[theory\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        collapse.flow(collapse.one_layer_velocity, layers, x_alpha, jnp.linspace(0.0, 1.0, 7))
    fields = modulation.tilted_fields(jax.random.key(0), num_fields=2, num_values=3, dim=2)
    with pytest.raises(ModuleNotFoundError, match="the flow of modulated filters needs diffrax"):
        modulation.integrate(jnp.eye(2), jnp.linspace(0.0, 1.0, 7), fields, RELU)


_FIRST_USE_IN_A_PROGRAM = """
import sys
import jax, jax.numpy as jnp
from alphacl_jax.theory.linear_networks import collapse
assert "diffrax" not in sys.modules
times = jnp.linspace(0.0, 1.0, 3)
for size in (2, 3):  # the second program must not meet what the first left in diffrax
    (w,) = collapse.flow(collapse.one_layer_velocity, (jnp.eye(size),), jnp.eye(size), times)
    assert abs(float(w[-1, 0, 0]) - 2.71828) < 1e-3, w
assert "diffrax" in sys.modules
"""


@pytest.mark.slow  # a process of its own
def test_diffrax_is_imported_at_its_first_use_and_leaves_nothing_traced():
    subprocess.run([sys.executable, "-c", _FIRST_USE_IN_A_PROGRAM], check=True)
