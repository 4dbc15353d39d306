"""What the papers analyse: token data, one-layer networks, linear networks, dual deep networks."""
