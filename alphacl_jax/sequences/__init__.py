"""Embeddings of time series by estimators of scikit-learn's conventions."""

from typing import TYPE_CHECKING

from alphacl_jax.extras import require_train
from alphacl_jax.lazy import attributes_of

if TYPE_CHECKING:
    from alphacl_jax.sequences.cebra import CEBRA

__all__ = ["CEBRA"]

require_train(__name__)

if not TYPE_CHECKING:  # or every name would pass a type check
    __getattr__ = attributes_of(__name__, {"CEBRA": "cebra"})
