"""The covariance operator that SimCLR applies to each layer of a deep ReLU network.

Tian et al., "Understanding Self-supervised Learning with Dual Deep Networks", 2020.
"""
