"""The study of the margin: its wrong loss, what it keeps of a course, its verdicts, a quick run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.objectives import margin_loss
from alphacl_jax.runs.flag_file import from_mapping
from alphacl_jax.runs.run import open_run
from alphacl_jax.training.mesh import data_mesh
from experiments.studies import margin as study
from experiments.studies.report import table_of
from tests.experiments.studies.made_up import cell, run_quick, verdicts
from tests.tiny_runs import TEST_IMAGES, TRAIN_IMAGES

LABELS = jnp.array([0, 1, 0])
Z = jax.random.normal(jax.random.key(0), (3, 2, 4))


@pytest.mark.parametrize("variant", study.SETTINGS, ids=lambda variant: variant.name)
def test_variants_are_settings_of_runs(variant):
    assert from_mapping(variant.settings).method.loss == "margin"


def test_the_loss_without_margin_by_hand():
    x, labels = np.float64(Z).reshape(6, 4), np.repeat(LABELS, 2)
    total = 0.0
    for i, j in np.ndindex(6, 6):
        d = 0.5 * np.sum((x[i] - x[j]) ** 2)
        total += d if labels[i] == labels[j] else -d
    assert float(study.loss_without_margin(Z, LABELS)) == pytest.approx(total / 30, rel=1e-5)


def test_what_the_margin_leaves_out_is_a_constant_where_no_pair_is_beyond_it():
    small = 0.01 * Z
    # Of 30 ordered pairs 2·(2·4) are of two classes, and each adds the margin.
    bounded = margin_loss(small, LABELS, 0.5) - 0.5 * 16 / 30
    assert float(study.loss_without_margin(small, LABELS)) == pytest.approx(
        float(bounded), abs=1e-6
    )


@pytest.fixture(scope="module")
def run():
    labels = np.arange(24) % 2
    dataset = dataset_from_arrays(TRAIN_IMAGES, labels, TEST_IMAGES, labels[:8])
    settings = {**study.COSINE.settings, "widths": (4,), "projector_hidden": 8, "projector_dim": 4}
    return open_run(from_mapping(settings), data_mesh(jax.devices()[:1]), dataset)


@pytest.mark.parametrize(
    ("variant", "scales"),
    [
        (study.COSINE, False),
        (study.COSINE_WITHOUT, False),
        (study.EUCLIDEAN, True),
        (study.EUCLIDEAN_WITHOUT, True),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_only_unnormalised_losses_see_the_length_of_embeddings(run, variant, scales):
    method = variant.method(run)
    batch = {
        "views": jax.random.normal(jax.random.key(1), (6, 2, 8, 8, 3)),
        "labels": jnp.arange(6) % 2,
    }
    params, state = jax.jit(method.init)(jax.random.key(2), batch)
    loss_of = jax.jit(method.loss)
    last = list(params["projector"])[-1]
    longer = {**params, "projector": {**params["projector"]}}
    longer["projector"][last] = jax.tree.map(lambda x: 3 * x, params["projector"][last])
    (loss, (_, metrics)), (scaled, (_, more)) = (
        loss_of(each, state, batch, None) for each in (params, longer)
    )
    assert float(more["norm"]) == pytest.approx(3 * float(metrics["norm"]), rel=1e-4)
    assert (abs(float(scaled - loss)) > 1e-3) == scales
    if variant is study.EUCLIDEAN_WITHOUT:
        assert float(scaled) == pytest.approx(9 * float(loss), rel=1e-3)


def test_what_is_kept_of_a_course():
    course = [[-float(i), 2.0 + i, 1.0] for i in range(1000)]
    found = study.figures_of(course)
    assert found["loss"] == pytest.approx(-989.5)  # the mean of 980 to 999
    assert found["growth"] == pytest.approx(991.5 / 2)
    kept = found["course"]
    assert (kept["step"][0], kept["step"][-1], len(kept["step"])) == (1, 1000, 200)
    assert kept["loss"] == [1.0 - step for step in kept["step"]]
    assert study.figures_of([]) == {}


def rows(**cells):
    given = {getattr(study, name).name: found for name, found in cells.items()}
    return {
        v.name: given.get(v.name, [cell(0.5, growth=1.5)])
        for v in (*study.SETTINGS, study.UNTRAINED)
    }


LOST = {"diverged": True, "ceased": 3}


@pytest.mark.parametrize(
    ("cells", "without", "with_it"),
    [
        ([cell(0.5, growth=100.0), cell(0.5, growth=11.0)], "holds", "does not hold"),
        ([LOST, LOST], "holds", "does not hold"),
        ([{**LOST, "growth": 5.0}, cell(0.5, growth=2.0)], "not settled", "not settled"),
        ([cell(0.5, growth=9.0), cell(0.5, growth=0.5)], "does not hold", "holds"),
    ],
)
def test_verdicts_on_divergence(cells, without, with_it):
    table = rows(EUCLIDEAN=cells, EUCLIDEAN_WITHOUT=cells)
    for name in (study.COSINE, study.COSINE_WITHOUT, study.UNTRAINED):
        table[name.name] = [cell(0.5, growth=1.0)] * 2
    found = verdicts(study.claims(table))
    assert found["unnormalised embeddings diverge without the margin"] == without
    assert found["unnormalised embeddings do not diverge with it"] == with_it


def test_the_table_of_runs_that_ceased():
    lost = [{**LOST, "loss": -1.25e9}, {**LOST, "ceased": 5, "loss": -1.35e9}]
    lines = table_of({"lost": lost}, study.COLUMNS).splitlines()
    assert lines[1].split() == ["loss", "not", "finite", "at", "step"]
    assert lines[2].split() == ["lost", "-1.3e+09", "±", "7.1e+07", "4", "±", "1"]
    kept = table_of({"lost": [LOST, cell(0.5, loss=2.0)]}, study.COLUMNS[:1]).splitlines()
    assert kept[2].split() == ["lost", "2.000", "(1", "diverged)"]


def test_verdicts_on_features():
    found = verdicts(study.claims(rows(COSINE=[cell(0.7, 0.3)])))
    better = "margin, normalised: better than untrained encoder"
    assert found[f"{better}, linear probe"] == "holds"
    assert found[f"{better}, kNN"] == "does not hold"
    better = "no margin, normalised: better than untrained encoder"
    assert found[f"{better}, kNN"] == "not settled"


@pytest.mark.slow
def test_a_quick_run(tmp_path):
    printed, _, written = run_quick("margin", tmp_path)
    cells = written["cells"]
    assert "not finite at step" not in printed
    trained = [c for c in cells if c["kind"] == "trained"]
    assert [c["variant"] for c in trained] == [v.name for v in study.SETTINGS]
    for found in trained:
        assert found["course"]["step"] == [1, 2, 3, 4]
        assert np.isfinite(found["course"]["norm"]).all()
