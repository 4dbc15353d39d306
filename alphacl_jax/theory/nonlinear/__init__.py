"""Networks of nonlinear nodes: local maxima, their stability and basins, global modulation.

Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization", 2022, the part on
one- and two-layer nonlinear networks.
"""
