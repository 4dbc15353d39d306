"""A nonlinear two-layer network on sequences of tokens with patterns and wildcards.

Tian, "Understanding the Role of Nonlinearity in Training Dynamics of Contrastive Learning", 2023.
"""
