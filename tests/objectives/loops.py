"""The losses outside the family as double loops in float64."""

import numpy as np


def half_distances(z):
    return 0.5 * ((z[:, None] - z[None, :]) ** 2).sum(axis=2)


def classes(labels):
    """Label −1 is of a class of its own."""
    return [int(label) if label >= 0 else -1 - i for i, label in enumerate(labels)]


def parts(labels, i):
    """Positives P(i), and the others of A(i)."""
    own = classes(labels)
    others = [j for j in range(len(own)) if j != i]
    return [j for j in others if own[j] == own[i]], [j for j in others if own[j] != own[i]]


def supcon(d, labels, tau, variant):
    values = []
    for i in range(len(d)):
        same, other = parts(labels, i)
        if not same:
            values.append(0.0)
            continue
        total = sum(np.exp(-d[i, a] / tau) for a in same + other)
        shares = [np.exp(-d[i, p] / tau) / total for p in same]
        out = -np.mean(np.log(shares))
        values.append(out if variant == "out" else -np.log(np.mean(shares)))
    return np.array(values)


def nca(d, labels, variant):
    values = []
    for i in range(len(d)):
        same, other = parts(labels, i)
        if not same:
            values.append(0.0)
            continue
        total = sum(np.exp(-2 * d[i, a]) for a in same + other)
        picked = sum(np.exp(-2 * d[i, p]) for p in same) / total
        values.append(-np.log(picked) if variant == "log" else -picked)
    return np.array(values)


def margin(d, labels, least):
    values = []
    for i in range(len(d)):
        same, other = parts(labels, i)
        total = sum(d[i, p] for p in same) + sum(max(least - d[i, n], 0.0) for n in other)
        values.append(total / max(len(same + other), 1))
    return np.array(values)


def triplet(d, labels, least, mining):
    values = []
    for i in range(len(d)):
        same, other = parts(labels, i)
        triplets = [(p, n) for p in same for n in other]
        if mining == "hard" and triplets:
            farthest = max(same, key=lambda p: d[i, p])
            triplets = [(farthest, min(other, key=lambda n: d[i, n]))]
        if mining == "semihard":
            triplets = [(p, n) for p, n in triplets if d[i, p] < d[i, n] < d[i, p] + least]
        hinges = [max(d[i, p] - d[i, n] + least, 0.0) for p, n in triplets]
        values.append(np.mean(hinges) if hinges else 0.0)
    return np.array(values)


def temporal(reference, positive, negative, tau, similarity):
    def phi(x, y):
        if similarity == "cosine":
            return x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) / tau
        return -np.sum((x - y) ** 2) / tau

    values = []
    for r, p in zip(reference, positive, strict=True):
        values.append(-phi(r, p) + np.log(sum(np.exp(phi(r, y)) for y in negative)))
    return np.array(values)


def predictive_negatives(negatives, recordings, groups, i):
    """The rows that are negatives of row i; an unknown recording or group is one of its own."""
    recording, group = classes(recordings), classes(groups)
    found = []
    for j in range(len(recording)):
        within, among = recording[j] == recording[i], group[j] == group[i]
        chosen = {
            "mixed": True,
            "mixed_excluded": not within,
            "same": among,
            "same_excluded": among and not within,
            "current": within,
        }[negatives]
        if chosen and j != i:
            found.append(j)
    return found


def predictive(prediction, z, tau, negatives, recordings, groups):
    """The losses of the rows, which of them count, and whether the positive has the best score."""
    values, counted, hits = [], [], []
    for i in range(len(z)):
        others = predictive_negatives(negatives, recordings, groups, i)
        scores = {j: prediction[i] @ z[j] / tau for j in (i, *others)}
        share = np.exp(scores[i]) / sum(np.exp(s) for s in scores.values())
        values.append(-np.log(share) if others else 0.0)
        counted.append(bool(others))
        hits.append(bool(others) and scores[i] > max(scores[j] for j in others))
    return np.array(values), np.array(counted), np.array(hits)
