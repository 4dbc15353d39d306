"""Writes cebra_losses.npz beside this file: losses and gradients of the published package `cebra`.

    pip install cebra==0.6.1
    python tests/golden/make_cebra.py

In float64, of random embeddings. With "cosine" they pass through the package's own layer that
normalises, whose place in its encoders is last. Nothing of this library is imported.
"""

from pathlib import Path

import cebra
import numpy as np
import torch
from cebra.integrations.sklearn.metrics import infonce_to_goodness_of_fit
from cebra.models import criterions, layers

REFERENCES, NEGATIVES, DIM, MINIMUM = 12, 16, 4, 0.1
FIXED = (0.5, 0.1)
# Above the floor, and below it.
LEARNED = {"above": 0.3, "below": 0.05}
LOSSES = {
    "cosine": (criterions.FixedCosineInfoNCE, criterions.LearnableCosineInfoNCE),
    "euclidean": (criterions.FixedEuclideanInfoNCE, criterions.LearnableEuclideanInfoNCE),
}


def embeddings():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(REFERENCES, DIM))
    positive = reference + 0.5 * rng.normal(size=(REFERENCES, DIM))
    return {
        "reference": reference,
        "positive": positive,
        "negative": rng.normal(size=(NEGATIVES, DIM)),
    }


def value_and_gradients(criterion, arrays, similarity):
    """Of the mean over references; by the embeddings before they are normalised."""
    criterion = criterion.double()
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    given = list(leaves.values())
    if similarity == "cosine":
        given = [layers._Norm()(x) for x in given]
    loss = criterion(*given)[0]
    loss.backward()
    found = {f"by_{name}": leaf.grad.numpy() for name, leaf in leaves.items()}
    for parameter in criterion.parameters():
        found |= {"log_inverse": parameter.item(), "by_log_inverse": parameter.grad.item()}
    bits = infonce_to_goodness_of_fit(loss.item(), batch_size=NEGATIVES, num_sessions=1)
    return found | {"loss": loss.item(), "bits": bits}


def main():
    arrays = embeddings()
    written = {"package": f"cebra {cebra.__version__}, torch {torch.__version__}", **arrays}
    written["minimum"] = MINIMUM
    for similarity, (fixed, learnable) in LOSSES.items():
        cases = {f"fixed_{tau}": fixed(tau) for tau in FIXED}
        cases |= {f"learned_{where}": learnable(tau, MINIMUM) for where, tau in LEARNED.items()}
        for case, criterion in cases.items():
            for what, value in value_and_gradients(criterion, arrays, similarity).items():
                written[f"{similarity}_{case}_{what}"] = value
    np.savez(Path(__file__).with_name("cebra_losses.npz"), **written)


if __name__ == "__main__":
    main()
