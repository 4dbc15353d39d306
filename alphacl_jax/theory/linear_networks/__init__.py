"""Linear networks: the energy as the objective of PCA, and dimensional collapse.

Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization", 2022 (`pca`);
Jing, Vincent, LeCun, Tian, "Understanding Dimensional Collapse in Contrastive Self-supervised
Learning", 2022 (`collapse`).
"""
