"""Sequences of tokens with patterns and wildcards: the data of the nonlinear two-layer network.

A sequence has K locations, each holding one of a few tokens. A pattern fixes some locations to
tokens and leaves the others to wildcards; a sample is a pattern with every wildcard filled at
random, and its second view redraws wildcards. What all views of a pattern share are the fixed
tokens, so these are what contrastive learning can find.

Source: Tian, "Understanding the Role of Nonlinearity in Training Dynamics of Contrastive
Learning", 2023, the slides "Experiment Setting".
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError


@dataclass(frozen=True)
class TokenSetting:
    """The sizes of a token distribution; the defaults are the published ones.

    Attributes:
      locations: K ≥ 1, the length of a sequence.
      tokens: the size of the vocabulary, ≥ 1.
      patterns: G ≥ 1, how many patterns there are.
      fixed: how many locations a pattern fixes, in [0, locations].
      redrawn: how many wildcards the second view redraws at most, ≥ 0.

    Raises:
      ValueError: naming the number that is out of range.
    """

    locations: int = 10
    tokens: int = 20
    patterns: int = 40
    fixed: int = 5
    redrawn: int = 5

    def __post_init__(self) -> None:
        for name in ("locations", "tokens", "patterns"):
            if (value := getattr(self, name)) < 1:
                raise ArgumentError(name, value, "leaves no data; it must be at least 1")
        if not 0 <= self.fixed <= self.locations:
            raise ArgumentError(
                "fixed",
                self.fixed,
                f"locations cannot be fixed in sequences of locations={self.locations}; it must "
                "be between 0 and locations",
            )
        if self.redrawn < 0:
            raise ArgumentError("redrawn", self.redrawn, "is out of range; it must be at least 0")


class Patterns(NamedTuple):
    """The patterns of one distribution.

    Attributes:
      tokens: `[patterns, locations]` int32, the token that is fixed at a location; of no meaning
        where the location is a wildcard.
      fixed: `[patterns, locations]` bool, False at wildcards.
    """

    tokens: Array
    fixed: Array


def draw_patterns(key: Array, setting: TokenSetting, per_location: int) -> Patterns:
    """Draws the patterns: random locations, each fixed to one of its location's allowed tokens.

    Args:
      key: of the allowed tokens of each location, and of the patterns.
      setting: the sizes.
      per_location: P, how many of the tokens a location allows in patterns, drawn without
        replacement for each location.

    Raises:
      ValueError: for P outside [1, tokens].
    """
    if not 1 <= per_location <= setting.tokens:
        raise ArgumentError(
            "per_location",
            per_location,
            f"tokens cannot be chosen of tokens={setting.tokens}; it must be between 1 and tokens",
        )
    key_allowed, key_fixed, key_choice = jax.random.split(key, 3)
    shape = (setting.patterns, setting.locations)
    vocabulary = jnp.tile(jnp.arange(setting.tokens), (setting.locations, 1))
    allowed = jax.random.permutation(key_allowed, vocabulary, axis=1, independent=True)
    choice = jax.random.randint(key_choice, shape, 0, per_location)
    tokens = jnp.take_along_axis(allowed, choice.T, axis=1).T
    return Patterns(tokens, _random_subset(key_fixed, jnp.ones(shape, bool), setting.fixed))


def tokens_of_locations(patterns: Patterns, tokens: int) -> Array:
    """Which tokens occur at which location in a pattern (R_k of the slides).

    Args:
      patterns: the patterns.
      tokens: the size of the vocabulary.

    Returns:
      `[locations, tokens]` bool.
    """
    hits = jax.nn.one_hot(patterns.tokens, tokens, dtype=bool) & patterns.fixed[:, :, None]
    return jnp.any(hits, axis=0)


def sample_views(
    key: Array, patterns: Patterns, batch: int, setting: TokenSetting
) -> tuple[Array, Array]:
    """Two views of a batch: each sample a random pattern, its wildcards filled at random.

    The second view fills up to `setting.redrawn` wildcards of each sample anew, from all tokens;
    drawing the same token again is possible.

    Args:
      key: of this batch.
      patterns: of `draw_patterns` with the same setting; each is drawn with equal probability.
      batch: how many samples.
      setting: the sizes.

    Returns:
      Both views, `[batch, locations]` int32 in [0, tokens).

    Raises:
      ValueError: batch < 1.
    """
    if batch < 1:
        raise ArgumentError("batch", batch, "is empty; it must be at least 1")
    # One draw for all: a program's compile time goes by the number of draws.
    numbers = 1 + 2 * setting.locations
    draws = jax.random.uniform(key, (batch * numbers,)).reshape(batch, numbers)
    pattern = _index(draws[:, 0], setting.patterns)
    fixed, fixed_tokens = patterns.fixed[pattern], patterns.tokens[pattern]
    first, anew = (
        jnp.where(fixed, fixed_tokens, _index(part, setting.tokens))
        for part in jnp.split(draws[:, 1:], 2, axis=1)
    )
    if setting.redrawn >= setting.locations - setting.fixed:
        return first, anew  # all of them: no sorting
    redrawn = _random_subset(jax.random.fold_in(key, 1), ~fixed, setting.redrawn)
    return first, jnp.where(redrawn, anew, first)


def _index(uniform: Array, count: int) -> Array:
    """Of uniform numbers in [0, 1), indices in [0, count)."""
    return jnp.floor(count * uniform).astype(jnp.int32)


def _random_subset(key: Array, among: Array, count: int) -> Array:
    """`count` random True entries of each row of `among` (all of them where it has no more)."""
    scores = jnp.where(among, jax.random.uniform(key, among.shape), 2.0)
    rank = jnp.argsort(jnp.argsort(scores, axis=1), axis=1)
    return among & (rank < count)


def token_embeddings(key: Array, tokens: int, dim: int) -> Array:
    """Embeddings u_a of unit length: one-hot for dim = tokens, else random directions.

    Random directions are independent, so not orthogonal to each other.

    Args:
      key: of the directions; one-hot embeddings do not use it.
      tokens: the size of the vocabulary.
      dim: of the embeddings.

    Returns:
      `[tokens, dim]`.

    Raises:
      ValueError: tokens or dim < 1.
    """
    for name, value in (("tokens", tokens), ("dim", dim)):
        if value < 1:
            raise ArgumentError(name, value, "must be at least 1")
    if dim == tokens:
        return jnp.eye(tokens)
    directions = jax.random.normal(key, (tokens, dim))
    return directions / jnp.linalg.norm(directions, axis=1, keepdims=True)


def half_scales(tokens: int, low: float, high: float) -> Array:
    """Lengths of non-uniform embeddings: `low` for the first half of the tokens, else `high`.

    Which half a token is in says nothing of its role, as each location draws its allowed tokens
    from all. The slides' non-uniformity ζ is read as `low=1/ζ, high=ζ`.

    Args:
      tokens: the size of the vocabulary.
      low: > 0.
      high: > 0.

    Returns:
      `[tokens]`, which the rows of the embeddings are multiplied by.

    Raises:
      ValueError: for a scale that is not positive.
    """
    _check_scales(low, high)
    return jnp.where(jnp.arange(tokens) < tokens // 2, low, high)


def graded_scales(tokens: int, low: float, high: float) -> Array:
    """Lengths of non-uniform embeddings, in equal ratios from `low` to `high`.

    Args, returns and raises as `half_scales`.
    """
    _check_scales(low, high)
    return jnp.geomspace(low, high, tokens)


def _check_scales(low: float, high: float) -> None:
    if not (low > 0 and high > 0):
        raise ValueError(f"scales low={low:g}, high={high:g} must be above 0")
