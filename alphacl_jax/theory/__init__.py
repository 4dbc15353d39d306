"""What the papers analyse, a folder for each topic; each builds on the library's kernels alone.

`coordinate`, `linear_networks` and `nonlinear` follow the paper that views contrastive learning as
coordinate-wise optimisation (and `linear_networks.collapse` the one on dimensional collapse),
`tokens` that on the role of nonlinearity, `covariance`, `latent_tree` and `dual_networks` that on
dual deep networks. What they share: `weights` (initialisers), `normalization` (BatchNorm),
`training` (loops), `flows` (differential equations) and `checks` (of settings).
"""
