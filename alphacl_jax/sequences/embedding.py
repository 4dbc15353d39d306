"""The embeddings of whole recordings, one for each moment."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from alphacl_jax.data.sequences import with_borders
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.cebra import Similarity, cebra_embeddings, session_name
from alphacl_jax.models.temporal import WindowEncoder
from alphacl_jax.sequences.model import Model

# Moments at a time: what is in memory beside the signal is of these.
_BLOCK = 4096


def embed(model: Model, session: int, recordings: Sequence[np.ndarray]) -> np.ndarray:
    """The embeddings `[time, dim]` of recordings, one behind the other.

    At the borders of each its first and last moments are repeated.

    Args:
      model: fitted.
      session: whose encoder it is.
      recordings: float32, each `[its time, channels]`.

    Raises:
      ArgumentError: where an embedding is not finite.
    """
    encoder, kind = model.problem.encoder, model.problem.similarity.kind
    width = encoder.receptive_field
    padded = [with_borders(each, encoder.before, encoder.after) for each in recordings]
    signal = np.concatenate(padded)
    starts = np.cumsum([len(each) for each in padded]) - [len(each) for each in padded]
    # The windows between, of moments of two recordings, are embedded too, and left out.
    own = [np.arange(s, s + len(each)) for s, each in zip(starts, recordings, strict=True)]
    name = session_name(session) if model.problem.are_listed else "encoder"
    program = _program(encoder, kind, name)
    total = len(signal) - width + 1
    # So that there are few shapes to compile for.
    block = min(_BLOCK, 2 ** (total - 1).bit_length())
    signal = np.pad(signal, ((0, -total % block), (0, 0)))
    found = [
        np.asarray(program(model.state.params, model.state.method_state, signal[None, i:end])[0])
        for i in range(0, total, block)
        for end in (i + block + width - 1,)
    ]
    z = np.concatenate(found)[np.concatenate(own)]
    if not np.isfinite(z).all():
        problem = "gives embeddings that are not finite: scale it as the data of the fit were"
        raise ArgumentError("X", f"of up to {np.abs(signal).max():g}", problem)
    return z


@functools.lru_cache(maxsize=64)
def _program(encoder: WindowEncoder, similarity: str, name: str) -> Callable[..., Any]:
    return jax.jit(cebra_embeddings(encoder, Similarity(similarity), name))
