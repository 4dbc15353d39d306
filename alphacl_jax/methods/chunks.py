"""A batch embedded in chunks, so that the activations of one chunk are in memory at a time.

The loss and its gradient by the embeddings are those of the whole batch. The forward pass keeps
nothing but its inputs; the backward pass goes through the chunks again, each with its part of that
gradient, and sums the gradients of the parameters.

References:
    Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
    (arXiv:2101.06983), GradCache.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.method import Batch

# `(params, stats, batch) -> (embeddings [batch, views, dim], moved stats)`.
Embed = Callable[[Any, Any, Batch], tuple[Array, Any]]
Carry = TypeVar("Carry")


def embed_in_chunks(
    embed: Embed, micro_batch: int, params: Any, stats: Any, batch: Batch
) -> tuple[Array, Any]:
    """`embed(params, stats, batch)`, a chunk of the batch at a time.

    Chunk k of c has the samples k, k + c, k + 2c, ...: so each device has an equal part of it
    without moving any, where a chunk has a multiple of the devices' number. The statistics are
    handed on from chunk to chunk.

    Args:
      embed: whose result for a sample depends on others through the statistics of its chunk alone.
      micro_batch: samples of a chunk; all of them are embedded as without chunks.
      params: of `embed`; gradients flow to them alone.
      stats: of `embed`, as they are before the first chunk.
      batch: arrays `[batch, ...]`.

    Returns:
      What `embed` does.

    Raises:
      ArgumentError: where the batch is no multiple of a chunk.
    """
    size = len(jax.tree.leaves(batch)[0])
    if size % micro_batch:
        problem = f"must divide the batch, which has {size} samples"
        raise ArgumentError("micro_batch", micro_batch, problem)
    count = size // micro_batch
    if count == 1:  # a scan of one step is a loop, in which CPU's convolutions crawl
        return embed(params, stats, batch)
    split = jax.tree.map(lambda x: x.reshape(micro_batch, count, *x.shape[1:]), dict(batch))
    held = jax.lax.stop_gradient((stats, split))
    z, stats = _cached(embed, count)(params, *held)
    return z.reshape(size, *z.shape[2:]), stats


def _cached(embed: Embed, count: int) -> Callable[[Any, Any, Any], tuple[Array, Any]]:
    """From params, stats and arrays `[micro_batch, count, ...]` to `[micro_batch, count, ...]`."""

    def chunk_of(arrays: Any, k: Array) -> Any:
        return jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, k, axis=1, keepdims=False), arrays
        )

    def forward(params: Any, stats: Any, split: Any) -> tuple[Array, Any]:
        def one(stats: Any, k: Array) -> tuple[Any, Array]:
            z, stats = embed(params, stats, chunk_of(split, k))
            return stats, z

        stats, z = _in_turn(one, stats, count)
        return jnp.moveaxis(z, 0, 1), stats

    def backward(saved: Any, cotangents: tuple[Array, Any]) -> tuple[Any, None, None]:
        params, stats, split = saved
        by_z, _ = cotangents

        def one(carry: tuple[Any, Any], k: Array) -> tuple[tuple[Any, Any], Array]:
            total, stats = carry
            chunk = chunk_of(split, k)
            _, pull, moved = jax.vjp(
                lambda params: embed(params, stats, chunk), params, has_aux=True
            )
            (gradient,) = pull(chunk_of(by_z, k))
            total = jax.tree.map(jnp.add, total, gradient)
            return (total, moved), _firsts(total)

        (total, _), _ = _in_turn(one, (jax.tree.map(jnp.zeros_like, params), stats), count)
        return total, None, None

    cached = jax.custom_vjp(forward)
    cached.defvjp(lambda *arguments: (forward(*arguments), arguments), backward)
    return cached


def _in_turn(
    one: Callable[[Carry, Array], tuple[Carry, Array]], carry: Carry, count: int
) -> tuple[Carry, Array]:
    """Scans `one` over 0 .. count − 1, each chunk after the one before it."""
    unrolled = _is_loop_slow()

    def step(state: tuple[Carry, Array], k: Array) -> tuple[tuple[Carry, Array], Array]:
        carry, before = state
        if unrolled:
            # Chunks that do not depend on each other would be in memory at the same time, and XLA's
            # CPU backend drops an `optimization_barrier`. Never true, which it cannot know.
            k = jnp.where(before < -jnp.inf, 0, k)
        carry, made = one(carry, k)
        return (carry, _firsts(made)), made

    (carry, _), made = jax.lax.scan(
        step, (carry, jnp.zeros(())), jnp.arange(count), unroll=unrolled
    )
    return carry, made


def _firsts(tree: Any) -> Array:
    """A number that is there once all arrays of the tree are: they need not come together."""
    firsts = [jnp.ravel(leaf)[0] for leaf in jax.tree.leaves(tree)]
    return jnp.sum(jnp.stack(firsts)).astype(float)


def _is_loop_slow() -> bool:
    """Whether chunks are better compiled one by one: XLA's CPU convolutions crawl in a loop."""
    return jax.default_backend() == "cpu"
