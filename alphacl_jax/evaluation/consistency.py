"""Whether embeddings agree up to a linear map: R² from each to each other.

Of two embeddings of the same n moments, x and y, each centred,

    R²(x → y) = 1/K Σ_k ( 1 − min_w ‖y_k − x·w‖² / ‖y_k‖² )

the mean over the K dimensions of y of the share of its variance that a least-squares fit with an
intercept explains, on the moments it is fitted to: the score of scikit-learn's `LinearRegression`,
but for a dimension that does not vary, which counts as 0 here and as 1 there, so that no collapsed
embedding looks consistent. It has two directions, and invertible linear maps of x, such as
rotations, change nothing.

A linear map of D dimensions explains noise, too: where x and y are independent, and y Gaussian, R²
of each dimension has a Beta(D/2, (n − 1 − D)/2) distribution, whose mean is D/(n − 1).

Embeddings of different moments, of several subjects or sessions, are brought together by a label
first: the mean embedding of each class, or of each bin of a number, takes the moments' place.

References:
  Schneider, Lee and Mathis 2023, "Learnable latent embeddings for joint behavioural and neural
  analysis" (doi:10.1038/s41586-023-06031-6), figure 1 and its code for consistency.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.evaluation.checks import check_features

DEFAULT_BINS = 100
EDGES = ("equal", "quantile")
# A dimension that varies less than this, beside the embedding's largest value, holds the rounding
# of float32 and nothing else.
_CONSTANT = 1e-6


@dataclasses.dataclass(frozen=True)
class Consistency:
    """R² of the linear map from one embedding to another, for each ordered pair.

    Attributes:
      pairs: (from, to) by name.
      scores: R² of each pair, in [0, 1].
      rows: how many moments, classes or bins each pair was compared on.
    """

    pairs: tuple[tuple[str, str], ...]
    scores: np.ndarray
    rows: np.ndarray

    @property
    def mean(self) -> float:
        """Over all ordered pairs: both directions count alike."""
        return float(self.scores.mean())


def consistency(
    embeddings: Mapping[str, ArrayLike] | Sequence[ArrayLike],
    labels: Sequence[ArrayLike] | None = None,
    *,
    bins: int | None = None,
    edges: str = "equal",
    unit_length: bool = True,
) -> Consistency:
    """R² of the linear map from each embedding to each other.

    The published package's default has the bins of `bins=99` here (its 100 are the edges), puts the
    one moment of the largest label nowhere, and fills a bin without moments from its neighbours.

    Args:
      embeddings: two or more, `[n, dim]`, by name or numbered; they may differ in dim, and with
        labels in n.
      labels: None compares moment by moment, as of several runs on the same data. Otherwise one
        `[n]` for each embedding, in their order: whole numbers or words are classes, other numbers
        are put into bins. Classes or bins that one embedding of a pair has no moment of are left
        out of that pair.
      bins: how many, for labels that are no classes; 100 where it is None.
      edges: "equal" widths between the smallest and the largest label of all embeddings, as
        published, or "quantile": the same number of all labels in each.
      unit_length: whether each mean of a class or bin is scaled to length 1, as published; not for
        embeddings whose lengths tell something.

    Raises:
      AssertionError: an embedding that is not `[n, dim]`.
      ArgumentError: fewer than two embeddings, other lengths or types of labels, or too few moments
        or bins: a linear map fits any dim + 1 of them exactly.
      ValueError: an embedding that is empty or not finite.

    >>> import numpy as np
    >>> z = np.random.default_rng(0).normal(size=(500, 2))
    >>> found = consistency({"first run": z, "second run": z @ [[0.0, 2.0], [-1.0, 0.5]]})
    >>> found.pairs
    (('first run', 'second run'), ('second run', 'first run'))
    >>> round(found.mean, 6)
    1.0
    """
    named = _named(embeddings)
    if edges not in EDGES:
        raise ArgumentError("edges", edges, f"must be one of {', '.join(EDGES)}")
    if labels is None:
        if bins is not None:
            raise ArgumentError("bins", bins, "is of labels, and there are none")
        _require_same_moments(named)
        aligned = [(z, np.arange(len(z))) for z in named.values()]
    else:
        classes = _classes(named, labels, bins, edges)
        means = [_class_means(z, y) for z, y in zip(named.values(), classes, strict=True)]
        aligned = [(_unit_rows(mean) if unit_length else mean, own) for mean, own in means]
    pairs, scores, rows = [], [], []
    for i, j in itertools.permutations(range(len(named)), 2):
        (x, x_of), (y, y_of) = aligned[i], aligned[j]
        _, x_rows, y_rows = np.intersect1d(x_of, y_of, return_indices=True)
        names = tuple(named)
        _require_enough(len(x_rows), x.shape[1], names[i], names[j], labels is not None)
        pairs.append((names[i], names[j]))
        scores.append(_r2(x[x_rows], y[y_rows]))
        rows.append(len(x_rows))
    return Consistency(tuple(pairs), np.array(scores), np.array(rows))


def linear_r2(source: ArrayLike, target: ArrayLike) -> float:
    """R² of the linear map from one set of vectors to another, as `consistency` has it.

    From an embedding to the latents that the data were made of it is the published score of how
    well these were reconstructed: fitted on the moments that it is computed on.

    Args:
      source: `[n, dim]`.
      target: `[n, other dim]`.

    Raises:
      AssertionError, ArgumentError, ValueError: as `consistency`.
    """
    found = {"source": source, "target": target}
    named = {name: check_features(name, array, np.float64) for name, array in found.items()}
    _require_same_moments(named)
    x, y = named.values()
    _require_enough(len(x), x.shape[1], "source", "target", False)
    return _r2(x, y)


def _r2(x: np.ndarray, y: np.ndarray) -> float:
    largest = np.abs(y).max()
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    # Directions in which x does not vary are rounding, and would explain what they can.
    u = u[:, s > s[0] * max(x.shape) * np.finfo(np.float64).eps]
    total = (y**2).sum(axis=0)
    explained = ((u.T @ y) ** 2).sum(axis=0)
    varies = total > len(y) * (_CONSTANT * largest) ** 2
    shares = np.where(varies, explained / np.where(varies, total, 1.0), 0.0)
    return float(np.minimum(shares, 1.0).mean())


def _named(embeddings: Mapping[str, ArrayLike] | Sequence[ArrayLike]) -> dict[str, np.ndarray]:
    if not isinstance(embeddings, Mapping):
        embeddings = {str(i): z for i, z in enumerate(embeddings)}
    if len(embeddings) < 2:
        raise ArgumentError("embeddings", shown(dict(embeddings)), "must be two or more to compare")
    return {
        str(name): check_features(f"embedding {name!r}", z, np.float64)
        for name, z in embeddings.items()
    }


def _require_same_moments(named: Mapping[str, np.ndarray]) -> None:
    lengths = {name: len(z) for name, z in named.items()}
    if len(set(lengths.values())) > 1:
        had = ", ".join(f"{name} {length}" for name, length in lengths.items())
        problem = f"have different numbers of moments ({had}): without labels they must be the same"
        raise ArgumentError("embeddings", shown(dict(named)), problem)


def _require_enough(rows: int, dim: int, source: str, target: str, binned: bool) -> None:
    if rows > dim + 1:
        return
    what = "classes or bins" if binned else "moments"
    raise ArgumentError(
        "embeddings",
        f"({source!r}, {target!r})",
        f"have {rows} {what} in common, and a linear map of {dim} dimensions fits any {dim + 1} "
        f"exactly: give more {what}",
    )


def _classes(
    named: Mapping[str, np.ndarray], labels: Sequence[ArrayLike], bins: int | None, edges: str
) -> list[np.ndarray]:
    """For each moment of each embedding the number of its class or bin, the same for all."""
    if len(labels) != len(named):
        problem = f"must be one for each of the {len(named)} embeddings"
        raise ArgumentError("labels", shown(list(labels)), problem)
    columns = [np.asarray(column) for column in labels]
    for (name, z), column in zip(named.items(), columns, strict=True):
        if column.shape != (len(z),):
            problem = f"of embedding {name!r} must have shape ({len(z)},), one for each moment"
            raise ArgumentError("labels", shown(column), problem)
        if column.dtype.kind not in "biufU":
            problem = f"of embedding {name!r} have type {column.dtype}: give numbers or words"
            raise ArgumentError("labels", shown(column), problem)
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            problem = f"of embedding {name!r} are not all finite: leave these moments out"
            raise ArgumentError("labels", shown(column), problem)
    kinds = {column.dtype.kind.replace("i", "u") for column in columns}
    if len(kinds) > 1:
        types = ", ".join(str(column.dtype) for column in columns)
        problem = f"have types {types}: all must be whole numbers, all words, or all other numbers"
        raise ArgumentError("labels", shown(columns), problem)
    borders = np.cumsum([len(column) for column in columns])[:-1]
    together = np.concatenate(columns)
    if kinds == {"f"}:
        numbers = _binned(together.astype(np.float64), bins, edges)
    elif bins is None:
        numbers = np.unique(together, return_inverse=True)[1]
    else:
        raise ArgumentError("bins", bins, "is of labels that are no classes, and these are")
    return np.split(numbers, borders)


def _binned(label: np.ndarray, bins: int | None, edges: str) -> np.ndarray:
    bins = DEFAULT_BINS if bins is None else bins
    if bins < 1:
        raise ArgumentError("bins", bins, "must be at least 1")
    if edges == "equal":
        inner = np.linspace(label.min(), label.max(), bins + 1)[1:-1]
    else:
        inner = np.quantile(label, np.arange(1, bins) / bins)
    return np.digitize(label, inner)


def _class_means(z: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean embedding of each class that has moments, and which these are."""
    own, index, counts = np.unique(number, return_inverse=True, return_counts=True)
    sums = np.zeros((len(own), z.shape[1]))
    np.add.at(sums, index, z)
    return sums / counts[:, None], own


def _unit_rows(z: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(z, axis=1, keepdims=True)
    return z / np.where(norm > 0, norm, 1)
