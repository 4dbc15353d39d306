"""Every --loss builds, takes its parameters, steps, and refuses what it does not read."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax import (
    Family,
    Rule,
    alpha_cl_loss,
    contrastive_loss,
    families,
    rules,
)
from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.objectives import _FAMILIES, _RULES, READ, make_objective
from alphacl_jax.runs.settings import LOSSES
from tests.tiny_runs import make_settings


def objective(*arguments):
    """What the flags of a run stand for."""
    return make_objective(make_settings(*arguments).method)


# A value of each parameter that is not the default, and one that is out of range.
OTHER = {
    "temperature": ("0.3", "0"),
    "eps": ("0.5", "-1"),
    "margin": ("0.7", "nan"),
    "sigmoid_c": ("2.5", "0"),
    "power": ("3", "1"),
    "gamma": ("3", "0"),
}
PAIRS = [(loss, name) for loss in LOSSES for name in READ[loss]]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_takes_a_step(loss):
    found = objective(f"--loss={loss}")
    assert isinstance(found, Rule if loss.startswith("alpha_") else Family)
    z = acl.l2_normalize(jax.random.normal(jax.random.key(0), (2, 6, 4)))

    def value(z):
        if isinstance(found, Rule):
            return alpha_cl_loss(z[0], z[1], found)
        return contrastive_loss(z[0], z[1], found)

    gradient = jax.jit(jax.grad(value))(z)
    assert np.isfinite(gradient).all()
    assert jnp.linalg.norm(gradient) > 1e-4


@pytest.mark.parametrize(("loss", "name"), PAIRS)
def test_every_parameter_that_is_read_is_read(loss, name):
    value = OTHER[name][0]
    assert objective(f"--loss={loss}", f"--{name}={value}") != objective(f"--loss={loss}")


@pytest.mark.parametrize(("loss", "name"), PAIRS)
def test_a_parameter_out_of_range_is_named(loss, name):
    bad = OTHER[name][1]
    with pytest.raises(ArgumentError, match=f"{name}={bad} is out of range; it must be") as error:
        objective(f"--loss={loss}", f"--{name}={bad}")
    assert error.value.argument == name


def test_parameters_arrive_under_their_names():
    flags = ["--temperature=0.3", "--power=3"]
    assert objective(*flags) == rules.direct(temperature=0.3, power=3.0)
    flags = ["--loss=info_nce", "--temperature=0.3", "--eps=0"]
    assert objective(*flags) == families.info_nce(temperature=0.3, eps=0)
    flags = ["--loss=alpha_from_soft_triplet", "--temperature=0.3", "--margin=0.2"]
    wanted = rules.from_family(families.soft_triplet(temperature=0.3, margin=0.2))
    assert objective(*flags) == wanted


@pytest.mark.parametrize("loss", LOSSES)
def test_a_parameter_that_is_not_read_is_refused(loss):
    for name in set(OTHER) - set(READ[loss]):
        with pytest.raises(ValueError, match=f"{name}=.* is not read by the loss {loss}; it reads"):
            objective(f"--loss={loss}", f"--{name}={OTHER[name][0]}")


@pytest.mark.parametrize("loss", ["info_nce", "linear"])
def test_only_rules_can_be_held_fixed(loss):
    message = f"stop_gradient=False has no meaning for the loss {loss}"
    with pytest.raises(ValueError, match=message):
        objective(f"--loss={loss}", "--nostop_gradient")
    objective("--loss=alpha_entropy", "--nostop_gradient")


def test_the_table_is_that_of_the_library():
    """Every family and rule that needs no function of one's own is there, with its parameters."""
    for module, kind, table in ((families, Family, _FAMILIES), (rules, Rule, _RULES)):
        functions = {
            name: [p.replace("c", "sigmoid_c") if p == "c" else p for p in parameters]
            for name, function in inspect.getmembers(module, inspect.isfunction)
            if not name.startswith("_")
            and function.__module__ == module.__name__
            and function.__annotations__.get("return") is kind
            and "family" not in (parameters := list(inspect.signature(function).parameters))
            and name != "regularized"
        }
        assert {name: list(names) for name, names in table.items()} == functions
