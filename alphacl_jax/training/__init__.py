"""Training: methods, optimisers, the sharded step, checkpoints and the loop around them."""
