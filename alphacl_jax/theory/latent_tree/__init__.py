"""The hierarchical latent tree: its data, a network of its shape, and what training finds.

Tian et al., "Understanding Self-supervised Learning with Dual Deep Networks", 2020.
"""
