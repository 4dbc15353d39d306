"""BYOL on the latent tree: when it collapses, and where its contrast comes from.

Tian et al., "Understanding Self-supervised Learning with Dual Deep Networks", 2020.
"""
