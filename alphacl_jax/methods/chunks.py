"""A batch embedded in chunks, so that the activations of one chunk are in memory at a time.

The loss and its gradient by the embeddings are those of the whole batch. The forward pass keeps
nothing but its inputs; the backward pass goes through the chunks again, each with its part of that
gradient, and sums the gradients of the parameters.

References:
    Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
    (arXiv:2101.06983), GradCache.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.convolutions import in_fast_layout
from alphacl_jax.methods.method import Batch

# `(params, stats, batch) -> (embeddings [batch, views, dim], moved stats)`.
Embed = Callable[[Any, Any, Batch], tuple[Array, Any]]


def embed_in_chunks(
    embed: Embed, micro_batch: int, params: Any, stats: Any, batch: Batch
) -> tuple[Array, Any]:
    """`embed(params, stats, batch)`, a chunk of the batch at a time.

    Chunk k of c has the samples k, k + c, k + 2c, ...: so each device has an equal part of it
    without moving any, where a chunk has a multiple of the devices' number. The statistics are
    handed on from chunk to chunk.

    Args:
      embed: whose result for a sample depends on others through the statistics of its chunk alone.
      micro_batch: samples of a chunk; with as many as the batch has, there is no second pass.
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
    if count == 1:
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

        stats, z = jax.lax.scan(one, stats, jnp.arange(count))
        return jnp.moveaxis(z, 0, 1), stats

    def gradient(params: Any, stats: Any, chunk: Any, by_z: Array) -> tuple[Any, Any]:
        _, pull, moved = jax.vjp(lambda params: embed(params, stats, chunk), params, has_aux=True)
        return pull(by_z)[0], moved

    if jax.default_backend() == "cpu":
        gradient = in_fast_layout(gradient)

    def backward(saved: Any, cotangents: tuple[Array, Any]) -> tuple[Any, None, None]:
        params, stats, split = saved
        by_z, _ = cotangents

        def one(carry: tuple[Any, Any], k: Array) -> tuple[tuple[Any, Any], None]:
            total, stats = carry
            of_chunk, moved = gradient(params, stats, chunk_of(split, k), chunk_of(by_z, k))
            return (jax.tree.map(jnp.add, total, of_chunk), moved), None

        start = jax.tree.map(jnp.zeros_like, params), stats
        (total, _), _ = jax.lax.scan(one, start, jnp.arange(count))
        return total, None, None

    cached = jax.custom_vjp(forward)
    cached.defvjp(lambda *arguments: (forward(*arguments), arguments), backward)
    return cached
