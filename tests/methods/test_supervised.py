"""Losses with labels as a method: the loss of all views, its measures, on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import alphacl_jax as acl
from alphacl_jax import objectives
from alphacl_jax.methods.contrastive import contrastive_method
from alphacl_jax.methods.supervised import supervised_method
from alphacl_jax.models.heads import Subvector
from tests.methods.test_siamese import DIM, KEY, SIZE, Linear, batch_of, kernel, unit

LABELS = np.array([0, 1, 0, 2, -1, 1, 0, 2])
MESHES = {
    n: jax.make_mesh((n,), ("data",), (AxisType.Auto,), devices=jax.devices()[:n]) for n in (1, 4)
}
LOSSES = {
    "supcon": functools.partial(objectives.supcon_loss, temperature=0.2),
    "triplet": functools.partial(objectives.triplet_loss, margin=0.5),
}


def batch_with(views, seed=0):
    x = np.random.default_rng(seed).normal(size=(len(LABELS), views, SIZE)).astype(np.float32)
    return batch_of(x) | {"labels": jnp.asarray(LABELS)}


@pytest.mark.parametrize(("name", "views"), [("supcon", 1), ("triplet", 2), ("supcon", 3)])
def test_the_loss_is_that_of_the_embeddings_of_all_views(name, views):
    found = []
    for devices in (1, 4):
        method = supervised_method(Linear(), Linear(DIM), LOSSES[name], MESHES[devices])
        batch = batch_with(views)
        params, state = method.init(KEY, batch)
        step = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
        found.append(step(params, state, batch, KEY))
        (value, (_, metrics)), _ = found[-1]
        z = unit(
            np.asarray(batch["views"]) @ kernel(params, "encoder") @ kernel(params, "projector")
        )
        np.testing.assert_allclose(value, LOSSES[name](z, LABELS), rtol=1e-4)
        rows = z.reshape(-1, DIM)
        np.testing.assert_allclose(metrics["std"], rows.std(axis=0).mean(), rtol=1e-4)
        share = np.linalg.eigvalsh(np.cov(rows.T))
        share = share / share.sum()
        rank = np.exp(-np.sum(share * np.log(share)))
        np.testing.assert_allclose(metrics["embedding_rank"], rank, rtol=1e-3)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), found[0], found[1]
    )


def test_images_of_one_class_are_no_negatives_where_labels_are_read():
    batch = batch_with(2)
    values = {}
    for labelled in (False, True):
        method = contrastive_method(
            Linear(), Linear(DIM), acl.families.info_nce(0.2), MESHES[4], labelled=labelled
        )
        params, state = method.init(KEY, batch)
        values[labelled], (_, metrics) = jax.jit(method.loss)(params, state, batch, KEY)
        z = unit(
            np.asarray(batch["views"]) @ kernel(params, "encoder") @ kernel(params, "projector")
        )
        options = {"labels": LABELS} if labelled else {}
        family = acl.families.info_nce(0.2)
        want = acl.contrastive_loss(z[:, 0], z[:, 1], family, **options)
        np.testing.assert_allclose(values[labelled], want, rtol=1e-4)
        found = acl.statistics(z[:, 0], z[:, 1], family, **options)
        np.testing.assert_allclose(metrics["energy"], found["energy"], rtol=1e-3)
    assert values[True] < values[False]


def test_directclr_sees_the_first_features_alone():
    batch = batch_with(2)
    method = contrastive_method(Linear(), Subvector(2), acl.families.info_nce(0.2), MESHES[1])
    params, state = method.init(KEY, batch)
    assert params["projector"] == {}
    (value, _), gradient = jax.jit(jax.value_and_grad(method.loss, has_aux=True))(
        params, state, batch, KEY
    )
    z = unit((np.asarray(batch["views"]) @ kernel(params, "encoder"))[..., :2])
    want = acl.contrastive_loss(z[:, 0], z[:, 1], acl.families.info_nce(0.2))
    np.testing.assert_allclose(value, want, rtol=1e-4)
    by_kernel = kernel(gradient, "encoder")
    assert (np.abs(by_kernel[:, :2]) > 1e-6).all()
    assert not by_kernel[:, 2:].any()
    images = np.asarray(batch["views"][:, 0])
    assert method.features(params, state, images).shape == (len(LABELS), SIZE)
    assert method.embed(params, state, images).shape == (len(LABELS), 2)


def test_more_coordinates_than_there_are():
    method = contrastive_method(Linear(), Subvector(9), acl.families.info_nce(0.2), MESHES[1])
    with pytest.raises(ValueError, match="subvector=9 must be between 1 and the number of feat"):
        method.init(KEY, batch_with(2))
