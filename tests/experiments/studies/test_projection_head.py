"""The study of projection heads: its settings, its measures, its claims, and the whole of it."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.runs.flag_file import from_mapping
from alphacl_jax.runs.methods import make_method
from alphacl_jax.runs.settings import ModelSettings
from alphacl_jax.training.mesh import data_mesh
from experiments.studies import head_probes as probes
from experiments.studies import projection_head as study
from experiments.studies.report import as_bits
from tests.experiments.studies.made_up import run_quick

TASKS = probes.tasks_of((8, 8, 3))
VARIANTS = study.variants(8, TASKS)
KEYS = [task.key for task in TASKS]


@pytest.mark.parametrize(
    ("shape", "keys", "left_out"),
    [
        ((8, 8, 3), ["colour", "turns", "noise", "sobel"], ""),
        ((8, 8, 1), ["turns", "noise", "sobel"], "colour or grey"),
        ((8, 6, 3), ["colour", "noise", "sobel"], "quarter turns"),
        ((8, 6, 1), ["noise", "sobel"], "colour or grey, quarter turns"),
    ],
)
def test_tasks_are_those_that_the_images_allow(shape, keys, left_out):
    tasks = probes.tasks_of(shape)
    assert [task.key for task in tasks] == keys
    assert probes.left_out(tasks) == left_out


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_variants_are_methods_that_can_be_made(variant):
    settings = from_mapping({"widths": (4, 8), **variant.settings})
    make_method(settings, (8, 8, 3), data_mesh())
    assert settings.method.loss == "info_nce"
    assert settings.method.temperature == 0.5


def test_one_run_makes_all_that_is_ignored_as_likely_as_the_probes_have_it():
    (ignoring,) = [each for each in VARIANTS if each.name == study.IGNORING]
    assert ignoring.settings["augmentation_overrides"] == (
        "quarter_turn_prob=0.75,noise_prob=0.5,noise_std=0.1,sobel_prob=0.5"
    )
    narrow = study.variants(8, probes.tasks_of((8, 6, 3)))
    assert not any("quarter" in str(each.settings) for each in narrow)


def test_transforms_do_what_their_task_says():
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 8, 8, 3)), jnp.float32)
    key = jax.random.key(0)
    changed = {t.key: [np.asarray(f(key, images)) for f in t.transforms] for t in TASKS}
    for ways in changed.values():
        np.testing.assert_array_equal(ways[0], images)
    grey = changed["colour"][1]
    np.testing.assert_allclose(grey[..., 0], images @ jnp.array([0.2989, 0.587, 0.114]), rtol=1e-5)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    for count, turned in enumerate(changed["turns"]):
        np.testing.assert_array_equal(turned, np.rot90(images, count, axes=(1, 2)))
    noise = changed["noise"][1] - images
    inside = (images > 0.4) & (images < 0.6)
    assert np.std(noise[inside]) == pytest.approx(probes.NOISE_STD, rel=0.25)
    flat = TASKS[3].transforms[1](key, jnp.full((1, 8, 8, 3), 0.7))
    np.testing.assert_array_equal(flat, 0.0)
    assert (changed["sobel"][1] != images).all()


class LinearHead:
    """Stands in for an Encoder: features are the first two pixels, the head is linear."""

    settings = types.SimpleNamespace(model=ModelSettings(projector_depth=1, projector_dim=2))
    matrix, bias = np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([0.0, 2.0])
    params = types.MappingProxyType({"projector": {"Dense_0": {"kernel": matrix, "bias": bias}}})
    state = types.MappingProxyType({"projector": {}})

    def __call__(self, images):
        return images.reshape(len(images), -1)[:, :2].astype(np.float32)

    def embed(self, images):
        projected = self(images) @ self.matrix + self.bias
        return projected / np.linalg.norm(projected, axis=1, keepdims=True)


def test_what_is_probed_is_h_and_the_head_of_it_by_hand():
    images = np.array([[[[1], [2]]], [[[0], [4]]]], np.uint8)
    found = probes.represented(LinearHead(), images)
    np.testing.assert_array_equal(found["h"], [[1, 2], [0, 4]])
    np.testing.assert_array_equal(found["g(h)"], [[3, 4], [0, 6]])
    np.testing.assert_allclose(found["z"], [[0.6, 0.8], [0, 1]])


class TinyStudy:
    """Classes that the first pixel tells."""

    def __init__(self):
        self.dataset = types.SimpleNamespace(image_shape=(4, 4, 1), class_names=("dark", "bright"))
        self.train, self.test = self._split(40, 0), self._split(10, 1)

    def _split(self, count, seed):
        images = np.random.default_rng(seed).integers(0, 90, (count, 4, 4, 1))
        labels = np.arange(count) % 2
        images[labels == 1] += 150
        return images.astype(np.uint8), labels


def test_a_cell_has_accuracies_errors_and_bits_of_each_part():
    found = probes.measure(TinyStudy(), LinearHead())
    assert list(found) == ["h", "g(h)", "z"]
    for cell in found.values():
        assert set(cell["correct"]) == {"classes", "turns", "noise", "sobel"}
    assert found["h"]["classes"] == 1.0
    assert found["h"]["classes_se"] == 0.0
    assert found["h"]["correct"]["classes"] == as_bits(np.ones(10, bool))
    # Two noisy numbers do not tell which of four ways is up.
    assert found["h"]["turns"] < 0.8
    assert found["h"]["turns_se"] == pytest.approx(
        np.sqrt(found["h"]["turns"] * (1 - found["h"]["turns"]) / 10)
    )
    json.dumps(found)


def test_chance_is_that_of_the_deal_and_of_the_most_frequent_class():
    found = probes.chances(np.array([0, 1, 1, 2]), TASKS)
    assert found == {"classes": 0.5, "colour": 0.5, "turns": 0.25, "noise": 0.5, "sobel": 0.5}


def right(share):
    return as_bits(np.arange(100) < 100 * share)


def cell(linear, h, g):
    parts = {
        part: {"correct": {key: right(share) for key in ("classes", *KEYS)}}
        | dict.fromkeys(("classes", *KEYS), share)
        for part, share in (("h", h), ("g(h)", g), ("z", g))
    }
    return {"linear_all": linear, "correct": {"linear_all": right(linear)}, **parts}


def made_up(h=0.9, g=0.5, nonlinear=0.9, linear=0.7, none=0.5, direct=0.8):
    shares = {
        study.NONLINEAR: nonlinear,
        study.LINEAR_HEAD: linear,
        study.NO_HEAD: none,
        study.DIRECTCLR: direct,
        study.IGNORING: 0.9,
        "untrained encoder": 0.4,
    }
    return {name: [cell(share, h, g), cell(share, h, g)] for name, share in shares.items()}


def test_claims_hold_where_all_is_as_published():
    found = study.claims(made_up(), TASKS)
    assert len(found) == 5 + 3 + 4
    assert {claim.verdict for claim in found} == {"holds"}
    assert "is better than" in found[-2].text


@pytest.mark.parametrize(("g", "verdict"), [(0.95, "does not hold"), (0.8, "not settled")])
def test_claims_on_the_head_are_of_h_against_g(g, verdict):
    found = study.claims(made_up(h=0.8, g=g), TASKS)
    assert {claim.verdict for claim in found[:8]} == {verdict}
    assert {claim.verdict for claim in found[8:]} == {"holds"}


def test_claims_on_projectors_are_of_their_features():
    found = study.claims(made_up(linear=0.9, none=0.95, direct=0.9), TASKS)
    assert [claim.verdict for claim in found[8:]] == [
        *("not settled", "does not hold", "does not hold", "not settled")
    ]


def test_a_run_that_diverged_settles_nothing_and_is_shown():
    rows = made_up()
    rows[study.NONLINEAR] = [{"diverged": True}] * 2
    found = study.claims(rows, TASKS)
    assert {claim.verdict for claim in found[:5]} == {"not settled"}
    lines = study.table(rows, TASKS, probes.chances(np.array([0, 1]), TASKS)).splitlines()
    assert any(line.startswith("nonlinear projector: h") and "diverged" in line for line in lines)


def test_tables_show_chance_and_what_is_published():
    shown = study.table(made_up(), TASKS[1:], probes.chances(np.array([0, 1]), TASKS[1:]))
    lines = {line.split("  ")[0]: line.split("  ")[1:] for line in shown.splitlines()}
    assert [cell.strip() for cell in lines["published: g(h)"] if cell.strip()] == [
        *("-", "25.6", "59.6", "56.3")
    ]
    assert [cell.strip() for cell in lines["chance"] if cell.strip()][:2] == ["50.0", "25.0"]
    assert "left out, for these images do not allow it: colour or grey" in shown
    assert lines[study.DIRECTCLR][-1].strip() == "62.7"


@pytest.mark.slow
def test_the_study_runs_and_goes_on_where_it_was(tmp_path):
    output = tmp_path / "head"
    for _ in range(2):
        out, err, found = run_quick("projection_head", output)
        assert "left out, for these images do not allow it: colour or grey" in out
        assert "nonlinear projector: g(h)" in out
    assert "step" not in err  # nothing was trained again
    assert [each["variant"] for each in found["cells"]] == [
        *(study.NONLINEAR, study.IGNORING, "untrained encoder"),
        *(study.LINEAR_HEAD, study.NO_HEAD, study.DIRECTCLR),
    ]
    assert found["cells"][0]["g(h)"]["noise"] >= 0
    for name in ("head", "head_trained_to_ignore", "projectors"):
        assert (output / f"{name}.png").exists()
