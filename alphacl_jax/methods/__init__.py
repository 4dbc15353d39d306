"""What the trainer trains: methods as four pure functions."""

from alphacl_jax.extras import require_train

require_train(__name__)
