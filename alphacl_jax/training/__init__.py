"""Training: methods, optimisers, the sharded step, checkpoints and the loop around them."""

from alphacl_jax.extras import require_train

require_train(__name__)
