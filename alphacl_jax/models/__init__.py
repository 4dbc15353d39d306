"""Encoders and heads (Flax Linen): `resnet` for images, `heads` for what sits on top of them."""

from alphacl_jax.extras import require_train

require_train(__name__)
