"""Encoders and heads (Flax Linen): `resnet` for images, `heads` for what sits on top of them."""
