"""Agreement with the published package `cebra`: losses, gradients, and goodness of fit.

golden/cebra_losses.npz was computed by version 0.6.1, in float64, by golden/make_cebra.py.
"""

from pathlib import Path

import jax
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax import objectives

GOLDEN = Path(__file__).parents[1] / "golden" / "cebra_losses.npz"
EMBEDDINGS = ("reference", "positive", "negative")
CASES = ("fixed_0.5", "fixed_0.1", "learned_above", "learned_below")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as figures:
        return dict(figures)


def loss_of(*arguments, similarity, minimum):
    """Of the embeddings and a fixed temperature, or the logarithm of the inverse of a learned."""
    *embeddings, parameter = arguments
    temperature = parameter
    if minimum is not None:
        temperature = acl.learned_temperature(-parameter, minimum, stop_at_minimum=True)
    return objectives.temporal_loss(*embeddings, temperature, similarity=similarity)


value_and_grad = jax.jit(
    jax.value_and_grad(loss_of, argnums=(0, 1, 2, 3)), static_argnames=("similarity", "minimum")
)


def test_cases_are_all_of_the_file(golden):
    assert str(golden["package"]).startswith("cebra 0.6.1")
    cases = {name.removesuffix("_loss") for name in golden if name.endswith("_loss")}
    assert cases == {f"{similarity}_{c}" for similarity in ("cosine", "euclidean") for c in CASES}


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients(similarity, case, golden, x64):
    of_case = lambda what: golden[f"{similarity}_{case}_{what}"]  # noqa: E731
    learned = case.startswith("learned")
    minimum = float(golden["minimum"]) if learned else None
    parameter = float(of_case("log_inverse") if learned else case.removeprefix("fixed_"))
    embeddings = [golden[name] for name in EMBEDDINGS]
    value, gradients = value_and_grad(
        *embeddings, parameter, similarity=similarity, minimum=minimum
    )
    np.testing.assert_allclose(value, of_case("loss"), rtol=1e-12)
    for name, ours in zip(EMBEDDINGS, gradients[:3], strict=True):
        theirs = of_case(f"by_{name}")
        assert np.abs(theirs).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    if learned:
        assert (of_case("by_log_inverse") == 0) == (case == "learned_below")
        np.testing.assert_allclose(gradients[3], of_case("by_log_inverse"), rtol=1e-9)
    bits = objectives.goodness_of_fit(value, golden["negative"].shape[0])
    np.testing.assert_allclose(bits, of_case("bits"), rtol=1e-9)
