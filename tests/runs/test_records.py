"""What TensorBoard shows of a run."""

import numpy as np

from alphacl_jax.runs import records
from alphacl_jax.runs.run import open_run
from alphacl_jax.training.mesh import data_mesh
from tests.tiny_runs import tiny_settings


def test_pairs_are_drawn_by_the_policies_of_both_views():
    plain = "--second_view_overrides=affine_prob=0,noise_std=0,cutout_prob=0"
    pairs = records._pairs(open_run(tiny_settings(plain), data_mesh()))
    image, first, second = np.split(pairs, 3, axis=1)
    np.testing.assert_allclose(second, image, atol=1e-5)
    assert np.mean(np.abs(first - image) > 0.01) > 0.5
