"""Descent on a loss as the alternation of a min and a max player.

Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization", 2022.
"""
