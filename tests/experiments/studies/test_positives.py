"""The study of the number of positives: its loss, its counts, its verdicts, and a quick run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax import l2_normalize
from alphacl_jax.objectives import supcon_loss
from alphacl_jax.runs.flag_file import from_mapping
from experiments.studies import positives as study
from tests.experiments.studies.made_up import cell, run_quick, verdicts

LABELS = np.array([0, 1, 0, 0, 2])
Z = l2_normalize(jax.random.normal(jax.random.key(0), (5, 2, 3)))


@pytest.mark.parametrize("variant", study.VARIANTS, ids=lambda variant: variant.name)
def test_variants_are_settings_of_runs(variant):
    assert from_mapping(variant.settings).augmentation.views == variant.settings.get("views", "2")


def by_hand(z, labels, most, temperature):
    """The loss by loops: of each anchor the first positives from its own sample on."""
    n, views, _ = z.shape
    values = []
    for i, v in np.ndindex(n, views):
        others = [((i + k) % n, w) for k in range(n) for w in range(views) if (k, w) != (0, v)]
        kept = [(j, w) for j, w in others if labels[j] == labels[i]][:most]
        negatives = [(j, w) for j, w in others if labels[j] != labels[i]]
        logits = {a: -0.5 * np.sum((z[i, v] - z[a]) ** 2) / temperature for a in kept + negatives}
        total = np.log(sum(np.exp(x) for x in logits.values()))
        values.append(np.mean([total - logits[p] for p in kept]))
    return np.mean(values)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_the_loss_leaves_the_other_positives_out(most):
    found = study.capped_supcon(Z, LABELS, most, 0.3)
    assert float(found) == pytest.approx(by_hand(np.float64(Z), LABELS, most, 0.3), rel=1e-5)


def test_with_room_for_all_it_is_supcon():
    found = study.capped_supcon(Z, LABELS, 5, 0.1)
    assert float(found) == pytest.approx(float(supcon_loss(Z, LABELS, 0.1)), rel=1e-6)


def test_the_loss_is_that_of_the_whole_batch_on_two_devices():
    z, labels = Z[:4].reshape(2, 2, 2, 3), jnp.asarray(LABELS[:4].reshape(2, 2))
    found = jax.vmap(
        lambda z, labels: study.capped_supcon(z, labels, 3, 0.1, axis_name="data"),
        axis_name="data",
    )(z, labels)
    whole = float(study.capped_supcon(Z[:4], LABELS[:4], 3, 0.1))
    np.testing.assert_allclose(found, [whole, whole], rtol=1e-6)


def test_anchors_without_a_positive_do_not_count():
    z, labels = Z[:3, :1], np.array([0, 1, 0])  # one view: the second has none
    found = study.capped_supcon(z, labels, 1, 0.1)
    assert float(found) == pytest.approx(float(supcon_loss(z, labels, 0.1)), rel=1e-6)


def test_how_many_positives_there_are():
    labels = np.zeros(8, int)
    assert study.positives_of(labels, 4, 2) == 7
    assert study.positives_of(labels, 4, 3) == 11
    assert study.positives_of(labels, 4, 2, 5) == 5
    # Of a class each: the other views alone.
    assert study.positives_of(np.arange(8), 4, 2) == 1
    # Three of a class and one alone, in one batch: (3·5 + 1)/4, and (3·3 + 1)/4.
    assert study.positives_of(np.array([0, 0, 0, 1]), 4, 2) == 4
    assert study.positives_of(np.array([0, 0, 0, 1]), 4, 2, 3) == 2.5


def rows(*, one=0.5, three=0.5, seven=0.5, everything=0.5, four=0.5):
    given = {
        study.BY_CAP[1].name: one,
        study.BY_CAP[3].name: three,
        study.BY_CAP[7].name: seven,
        study.ALL.name: everything,
        study.BY_VIEWS[4].name: four,
    }
    return {v.name: [cell(given.get(v.name, 0.5))] for v in study.VARIANTS}


def test_verdicts():
    found = verdicts(study.claims(rows(one=0.4, three=0.6, seven=0.6, everything=0.6, four=0.5)))
    assert found.pop("three positives beat one, linear probe") == "holds"
    assert found.pop("all positives beat one, kNN") == "holds"
    assert found.pop("4 views beat 2, linear probe") == "does not hold"
    assert verdicts(study.claims(rows()))["4 views beat 2, kNN"] == "not settled"


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ({"one": 0.3, "three": 0.5, "seven": 0.6, "everything": 0.61}, "holds"),
        ({"one": 0.5, "three": 0.51, "seven": 0.5, "everything": 0.51}, "not settled"),
        ({"one": 0.5, "three": 0.51, "seven": 0.3, "everything": 0.6}, "does not hold"),
    ],
)
def test_whether_the_gain_diminishes(accuracies, verdict):
    (claim,) = (c for c in study.claims(rows(**accuracies)) if "gains more" in c.text)
    assert claim.verdict == verdict


def test_nothing_is_said_of_runs_that_diverged():
    none = {name: [{"diverged": True}] for name in rows()}
    assert set(verdicts(study.claims(none)).values()) == {"not settled"}


def test_points_of_the_picture():
    counted = study.with_positives(rows(one=0.4), lambda views, most: most or 10.04 * views)
    assert "positives" not in counted["untrained encoder"][0]
    capped, views = study.curves_of(counted, "knn").values()
    assert [x for x, _ in capped] == [1, 3, 5, 7, 9, 20.1]
    assert [x for x, _ in views] == [20.1, 30.1, 40.2]
    assert capped[0][1].tolist() == [0.4]


@pytest.mark.slow
def test_a_quick_run(tmp_path):
    printed, _, written = run_quick("positives", tmp_path)
    cells = written["cells"]
    assert [c["variant"] for c in cells] == [v.name for v in study.VARIANTS]
    assert "positives of an anchor" in printed
