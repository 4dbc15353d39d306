"""How the pairs of a set of embeddings are cut into square tiles, and which of them count."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# Tiles worked on at once: on a CPU they run beside each other, on its cores.
TILES_AT_ONCE = 4


class Tiling(NamedTuple):
    """How the embeddings are cut: `blocks` of `side` rows, of which `total` are no filling.

    Classes are `[blocks, side]`, equal within a class, or None. Pairs of one class do not count,
    unless they are `told_apart`: then all but those within a sample count, and `alike` tells which
    are of one class.

    Embeddings that are spread over the devices of `axis_name` are cut in the same way on each. Of
    `sets=2` the second half of the blocks are those of another device.
    """

    views: int
    total: int
    blocks: int
    side: int
    told_apart: bool = False
    axis_name: Any = None
    sets: int = 1

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return self.blocks * (self.blocks + 1) // 2

    def place(self, a: Array, b: Array) -> Array:
        """The place of tile (a, b), a <= b, among all; `tiles` for those that do not exist."""
        return a * (2 * self.blocks + 1 - a) // 2 + b - a

    def within(self, a: Array, classes: Array | None) -> Array:
        """True at the pairs of block a's rows that count: `[side, side]`."""
        sample, real = jnp.arange(self.side) // self.views, self.real(a)
        mask = (sample[:, None] != sample[None, :]) & real[None, :] & real[:, None]
        return mask if classes is None or self.told_apart else mask & ~_alike(classes, a, a)

    def between(self, a: Array, b: Array, classes: Array | None) -> Array | None:
        """The same of block a's rows and block b's, which share no sample; None where all count."""
        mask = None
        if self.total < self.blocks // self.sets * self.side:
            mask = self.real(a)[:, None] & self.real(b)[None, :]
        if classes is None or self.told_apart:
            return mask
        return both(mask, ~_alike(classes, a, b))

    def alike(self, a: Array, b: Array, classes: Array | None) -> Array | None:
        """Where pairs of one class are told apart, True at those: `[side, side]`."""
        if not self.told_apart:
            return None
        assert classes is not None
        return _alike(classes, a, b)

    def real(self, a: Array) -> Array:
        """True at the rows of block a that are no filling: `[side]`."""
        first = a % (self.blocks // self.sets) * self.side
        place = first + jnp.arange(self.side, dtype=a.dtype)
        return (place < self.total) & (a < self.blocks)

    def with_guest(self) -> "Tiling":
        """One's own blocks, and after them another device's."""
        return self._replace(blocks=2 * self.blocks, sets=2)

    def guest_tiles(self, shared: bool) -> Array:
        """Each block of one's own with each of a guest's, or half of these where work is shared.

        Device i < P/2 then takes the first half of the pairs of its blocks with those of device
        i + P/2, which takes the others.
        """
        pairs = jnp.stack(jnp.divmod(jnp.arange(self.blocks**2), self.blocks), axis=1)
        if shared:
            half = -(-len(pairs) // 2)
            rest = ((0, 2 * half - len(pairs)), (0, 0))
            others = jnp.pad(pairs[half:, ::-1], rest, constant_values=2 * self.blocks)
            place, devices = jax.lax.axis_index(self.axis_name), jax.lax.axis_size(self.axis_name)
            pairs = jnp.where(place < devices // 2, pairs[:half], others)
        return pairs.at[:, 1].add(self.blocks)

    def fold(
        self,
        within: Callable[..., Any],
        between: Callable[..., Any],
        carry: Any,
        tiles: Array | None = None,
    ) -> Any:
        """Visits tiles: `between(carry, a, b)` of each row of `tiles`, `[count, 2]`.

        Without `tiles` it is every tile: `within(carry, a)` and `between` for a < b.
        """
        if tiles is None:
            carry = self._fold(within, carry, jnp.arange(self.blocks)[:, None])
            tiles = jnp.stack(jnp.triu_indices(self.blocks, k=1), axis=1)
        return self._fold(between, carry, tiles) if len(tiles) else carry

    def _fold(self, visit: Callable[..., Any], carry: Any, tiles: Array) -> Any:
        # Groups of at most TILES_AT_ONCE, as even as they can be. The last one is filled up with a
        # block that does not exist: what is read for it does not matter, since JAX drops what is
        # added to it.
        count = -(-len(tiles) // TILES_AT_ONCE)
        together = -(-len(tiles) // count)
        rest = ((0, -len(tiles) % together), (0, 0))
        filled = jnp.pad(tiles.astype(jnp.int32), rest, constant_values=self.blocks)
        groups = filled.reshape(-1, together, tiles.shape[1])

        def group(carry: Any, blocks: Array) -> tuple[Any, None]:
            for k in range(together):
                carry = visit(carry, *blocks[k])
            return carry, None

        return jax.lax.scan(group, carry, groups)[0]


def _alike(classes: Array, a: Array, b: Array) -> Array:
    return classes[a][:, None] == classes[b][None, :]


def both(mask: Array | None, other: Array) -> Array:
    """True where both are; a mask that is None is True everywhere."""
    return other if mask is None else mask & other
