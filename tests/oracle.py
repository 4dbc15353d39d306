"""The formulas of the losses and rules once more, in NumPy float64, as plain double loops.

Written from the mathematics only (half squared distances, φ and ψ, the regularisers' stationarity
equations), with scalar functions and no attention to overflow. The tests compare against these.
"""

import numpy as np
from scipy.optimize import brentq


def half_squared_distance(a, b):
    return 0.5 * sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True))


def layout(z, z_pos, negatives):
    """Anchors, positives, candidates, and the set of negatives of each anchor."""
    z, z_pos = np.asarray(z, np.float64), np.asarray(z_pos, np.float64)
    n = len(z)
    if isinstance(negatives, str) and negatives == "both_views":
        both, other = np.concatenate([z, z_pos]), np.concatenate([z_pos, z])
        sets = [{j for j in range(2 * n) if j % n != i % n} for i in range(2 * n)]
        return both, other, both, sets
    if isinstance(negatives, str) and negatives in ("same_view", "cross_view"):
        candidates = z if negatives == "same_view" else z_pos
        return z, z_pos, candidates, [{j for j in range(n) if j != i} for i in range(n)]
    array, mask = negatives if isinstance(negatives, tuple) else (negatives, None)
    array = np.asarray(array, np.float64)
    sets = [{j for j in range(len(array)) if mask is None or mask[i][j]} for i in range(n)]
    return z, z_pos, array, sets


def distances(z, z_pos, negatives):
    """d_i² by anchor, and for each anchor d_ij² by negative, {j: d_ij²}."""
    anchors, positives, candidates, sets = layout(z, z_pos, negatives)
    d_pos = [half_squared_distance(a, p) for a, p in zip(anchors, positives, strict=True)]
    d_neg = [
        {j: half_squared_distance(a, candidates[j]) for j in sorted(s)}
        for a, s in zip(anchors, sets, strict=True)
    ]
    return d_pos, d_neg, len(candidates)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def family(name, *p):
    """φ, ψ, φ', ψ' of the table of losses, each with the parameters that the table names."""
    exp, log = np.exp, np.log
    if name == "info_nce":
        tau, eps = p
        return (
            lambda x: tau * log(eps + x),
            lambda x: exp(x / tau),
            lambda x: tau / (eps + x),
            lambda x: exp(x / tau) / tau,
        )
    if name == "mine":
        return log, exp, lambda x: 1 / x, exp
    if name == "triplet":
        (margin,) = p
        return (
            lambda x: x,
            lambda x: max(x + margin, 0.0),
            lambda x: 1.0,
            lambda x: float(x + margin > 0),
        )
    if name == "soft_triplet":
        tau, margin = p
        return (
            lambda x: tau * log(1 + x),
            lambda x: exp(x / tau + margin),
            lambda x: tau / (1 + x),
            lambda x: exp(x / tau + margin) / tau,
        )
    if name == "n_plus_one_tuplet":
        return lambda x: log(1 + x), exp, lambda x: 1 / (1 + x), exp
    if name == "lifted_structured":
        (margin,) = p
        return (
            lambda x: max(log(x), 0.0) ** 2,
            lambda x: exp(x + margin),
            lambda x: 2 * max(log(x), 0.0) / x,
            lambda x: exp(x + margin),
        )
    if name == "sigmoid":
        (c,) = p
        return (
            lambda x: x,
            lambda x: sigmoid(c * x),
            lambda x: 1.0,
            lambda x: c * sigmoid(c * x) * (1 - sigmoid(c * x)),
        )
    assert name == "linear"
    return lambda x: x, lambda x: x, lambda x: 1.0, lambda x: 1.0


def xi(d_pos, d_neg, psi):
    pairs = zip(d_pos, d_neg, strict=True)
    return np.array([sum(psi(p - d) for d in row.values()) for p, row in pairs])


def family_values(d_pos, d_neg, phi, psi):
    """φ(ξ_i) of each anchor."""
    return np.array([phi(x) for x in xi(d_pos, d_neg, psi)])


def family_alpha(d_pos, d_neg, candidates, functions):
    """α_ij = φ'(ξ_i) ψ'(d_i² − d_ij²)."""
    _, psi, d_phi, d_psi = functions
    alpha = np.zeros((len(d_pos), candidates))
    for i, x in enumerate(xi(d_pos, d_neg, psi)):
        for j, d in d_neg[i].items():
            alpha[i, j] = d_phi(x) * d_psi(d_pos[i] - d)
    return alpha


def normalized(row):
    return row / row.sum()


def multiplier(budget, low, high):
    """The root of an increasing budget(μ) = 1."""
    return brentq(lambda mu: budget(mu) - 1, low, high, xtol=1e-15, rtol=1e-15, maxiter=500)


def rule_row(name, d, *p):
    """One row of α from its d_ij², `[negatives]`; the regularised ones by a scalar solve for μ."""
    d = np.asarray(d, np.float64)
    if name == "direct":
        tau, power = p
        return normalized(np.exp(-(np.sqrt(d) ** power) / tau))
    if name == "uniform":
        return np.full(len(d), 1 / len(d))
    if name == "closeness":
        # A user's own in the tests, its rows of no fixed sum.
        return np.exp(-d / p[0])
    if name == "reference_inverse":
        tau, gamma = p
        return normalized(1 / (d + tau) ** gamma)
    if name == "entropy":
        # 2d² + 2τ(log a + 1) = μ
        (tau,) = p
        return normalized(np.exp(-d / tau))
    if name == "inverse":
        # 2d² − 2τ a^{−γ} = μ, with t = min d² − μ/2 > 0 found by its logarithm
        tau, gamma = p
        row = lambda s: (tau / (d - d.min() + np.exp(-s))) ** (1 / gamma)  # noqa: E731
        s = multiplier(lambda s: row(s).sum(), -np.log(tau) - gamma * np.log(len(d)) - 1, 60.0)
        return row(s)
    assert name == "square"
    # 2d² + τ a = μ where a > 0
    (tau,) = p
    row = lambda mu: np.maximum(mu - 2 * d, 0) / tau  # noqa: E731
    return row(multiplier(lambda mu: row(mu).sum(), 2 * d.min(), 2 * d.max() + 2 * tau))


def rule_alpha(d_neg, candidates, name, *p):
    alpha = np.zeros((len(d_neg), candidates))
    for i, row in enumerate(d_neg):
        if row:
            alpha[i, list(row)] = rule_row(name, list(row.values()), *p)
    return alpha


def alpha_cl_values(d_pos, d_neg, alpha):
    """Σ_j α_ij (d_i² − d_ij²) of each anchor."""
    return np.array(
        [sum(alpha[i, j] * (d_pos[i] - d) for j, d in row.items()) for i, row in enumerate(d_neg)]
    )


def covariance(x, x_pos, alpha, y, y_pos):
    """C_α[x, y] in the layout that α's shape names."""
    negatives = "same_view" if len(alpha) == len(x) else "both_views"
    a, a_pos, _, sets = layout(x, x_pos, negatives)
    b, b_pos, _, _ = layout(y, y_pos, negatives)
    total = np.zeros((a.shape[1], b.shape[1]))
    for i, negatives_of_i in enumerate(sets):
        for j in negatives_of_i:
            total += alpha[i, j] * np.outer(a[i] - a[j], b[i] - b[j])
            total -= alpha[i, j] * np.outer(a[i] - a_pos[i], b[i] - b_pos[i])
    return total


def statistics(d_pos, d_neg, alpha):
    pairs = [d for row in d_neg for d in row.values()]
    perplexity = []
    for row in alpha:
        share = row[row > 0] / row.sum() if row.sum() > 0 else np.zeros(0)
        perplexity.append(np.exp(-np.sum(share * np.log(share))) if len(share) else 0.0)
    return {
        "energy": -2 * alpha_cl_values(d_pos, d_neg, alpha).sum(),
        "positive_distance": np.mean(d_pos),
        "negative_distance": np.mean(pairs),
        "perplexity": np.mean(perplexity),
        "alignment": np.mean([2 * d for d in d_pos]),
        "uniformity": np.log(np.mean([np.exp(-2 * (2 * d)) for d in pairs])),
    }
