"""How far rounding may move a loss and its gradient: bounds from theory, not from what is measured.

Distances by products of embeddings are off by δ = eps·M with M = max ‖z‖². A row of α, of sum at
most K, then moves by at most K·min(2, e) in all, where e = Λδ is the error of its exponents. The
loss moves by Kδ where α is its derivative (families), and by another K·min(2, e)·range(d²) where
it is α itself that is summed (rules); its gradient by the change of α times max ‖z‖, where α is
not stopped with the slope of α on top.
"""

import math
from typing import NamedTuple

import numpy as np

CONSTANT = 32.0


class Sensitivity(NamedTuple):
    """K, Λ, an absolute error of exponents in eps, the loss's unit; and whether α is continuous."""

    row_sum: float
    slope: float
    exponent: float = 0.0
    unit: float = 1.0
    smooth: bool = True  # α is a continuous function of the distances
    differentiable: bool = True  # and so is its derivative
    power: float = 1.0  # e = Λ δ^power


def of_family(name, parameters, size, count):
    """For embeddings of ‖z‖² <= size and at most `count` negatives."""
    if name in ("info_nce", "soft_triplet"):
        tau, other = parameters
        margin = abs(other) if name == "soft_triplet" else 0.0
        return Sensitivity(1.0, 1 / tau, exponent=margin, unit=tau)
    if name in ("mine", "n_plus_one_tuplet"):
        return Sensitivity(1.0, 1.0)
    if name == "lifted_structured":
        (margin,) = parameters
        return Sensitivity(2 * (math.log(count) + 2 * size + abs(margin) + 1), 1.0, abs(margin))
    if name == "triplet":
        return Sensitivity(count, 0.0, unit=abs(parameters[0]), smooth=False)
    if name == "sigmoid":
        (c,) = parameters
        return Sensitivity(count * max(c / 4, c * c / 10), c)
    assert name == "linear"
    return Sensitivity(count, 0.0)


def of_rule(name, parameters, size, count):
    if name == "uniform":
        return Sensitivity(1.0, 0.0)
    tau, farthest = parameters[0], 2 * size
    if name == "closeness":
        return Sensitivity(count, 1 / tau)
    if name == "direct":
        power = parameters[1]
        if power < 2:
            return Sensitivity(1.0, 1 / tau, power=power / 2, differentiable=False)
        return Sensitivity(1.0, power / 2 * farthest ** (power / 2 - 1) / tau)
    if name == "entropy":
        return Sensitivity(1.0, 1 / tau)
    if name == "reference_inverse":
        gamma = parameters[1]
        exponent = gamma * (abs(math.log(tau)) + abs(math.log(farthest + tau)))
        return Sensitivity(1.0, gamma / tau, exponent)
    if name == "inverse":
        return Sensitivity(1.0, 2 / (parameters[1] * tau), abs(math.log(tau)))
    assert name == "square"
    # A projection on the simplex is no farther from another than what is projected: in the
    # 2-norm, hence the count. Its derivative jumps where an entry enters the support.
    return Sensitivity(1.0, 2 * count / tau, differentiable=False)


def rounding(s, eps, size, count, loss, *, is_rule, stop_gradient, stored):
    """The bounds of the loss, of its gradient by embeddings, and of τ times that by τ.

    `stored` is the eps of the embeddings' type, in which the parts of a gradient (as anchor, as
    positive, as candidate) are rounded before they are added. A bound is inf where theory has none.
    """
    delta, reach = eps * size, 4 * size
    error = s.slope * delta**s.power + eps * (s.exponent + math.log(count + 1) + 1)
    change = s.row_sum * min(2.0, error)
    value = s.row_sum * (delta + eps * s.unit * math.log(count + 1)) + eps * abs(loss)
    if is_rule:
        value += change * reach
        if not s.smooth:
            value = math.inf
    through = 1 + s.slope * reach
    backprop = is_rule and not stop_gradient
    parts = s.row_sum * math.sqrt(size) * (through if backprop else 1.0)
    gradient = parts * (min(2.0, error) + eps)
    if not s.smooth or (backprop and not s.differentiable):
        gradient = math.inf
    temperature = value * through if s.differentiable else math.inf
    gradient = CONSTANT * gradient + 8 * stored * parts
    return CONSTANT * value, gradient, CONSTANT * temperature


def largest_square(*arrays):
    """M = max ‖z‖², at least enough that products do not underflow."""
    most = max(float(np.max(np.sum(np.asarray(a, np.float64) ** 2, axis=1))) for a in arrays)
    return max(most, 1e-30)
