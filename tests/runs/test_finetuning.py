"""Fine-tuning: which labels, from which weights, at which rates; and what is kept of it."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alphacl_jax.data import policies
from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.data.sources import ArraySource, Split, fits_in_memory, to_arrays
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.evaluation.linear import draw_labels
from alphacl_jax.runs import (
    AugmentationSettings,
    FinetuneSettings,
    finetune,
    finetune_training,
    pretrain,
)
from alphacl_jax.runs.finetune_training import Labelled, Network, Trainer, draw, hold_out, per_class
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.optim import make_optimizer, warmup_cosine
from tests.runs.test_encoder import TINY
from tests.tiny_runs import TEST_IMAGES, TRAIN_IMAGES

LABELS, TEST_LABELS = np.arange(24) % 2, np.arange(8) % 2
QUICK = {"min_steps": 20, "epochs": 1, "batch_size": 8, "augmentation": "none", "num_seeds": 2}


@pytest.fixture(scope="module")
def encoder():
    plain = AugmentationSettings(augmentation="none")
    return pretrain(TRAIN_IMAGES, dataclasses.replace(TINY, augmentation=plain))


@pytest.fixture(scope="module")
def dataset():
    return dataset_from_arrays(TRAIN_IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)


def labelled(labels) -> Labelled:
    """Images each of which shows its own number."""
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    split = Split(ArraySource(images, np.asarray(labels, np.int32)), labelled=True)
    return Labelled.all_of(split, 2**20)


def test_draws_are_balanced_and_come_again_with_the_seed():
    rng = np.random.default_rng(0)
    everything = labelled(rng.permutation(np.repeat([0, 1, 2], [40, 50, 60])))
    drawn = draw(everything, 3, 0.1, seed=4)
    assert np.bincount(drawn.labels).tolist() == [5, 5, 5]
    images = drawn.images().source
    np.testing.assert_array_equal(images.labels, drawn.labels)
    np.testing.assert_array_equal(images.images.ravel(), drawn.positions)
    np.testing.assert_array_equal(everything.labels[drawn.positions], drawn.labels)
    np.testing.assert_array_equal(draw(everything, 3, 0.1, seed=4).positions, drawn.positions)
    assert draw(everything, 3, 0.1, seed=5).positions.tolist() != drawn.positions.tolist()
    # The probe of frozen features draws the same.
    (probed,) = draw_labels(everything.labels, 3, per_class(everything.labels, 3, 0.1), 1, 4)
    assert sorted(probed) == drawn.positions.tolist()
    assert draw(everything, 3, 1.0, seed=0) is everything


@pytest.mark.parametrize(
    ("counts", "fraction", "message"),
    [
        ([50, 50], 0.009, r"=0.009 leaves no image of a class: of 100 in 2 classes it is 0.45 of .*"
         r"Give at least 0.02"),
        ([12, 84], 0.5, r"=0.5 asks for 24 images of each class, and class 0 has 12. Give at most "
         r"0.25, or 1 for all labels"),
        ([0, 96], 0.5, r"class 0 has 0. Give 1 for all labels"),
    ],
)  # fmt: skip
def test_shares_that_cannot_be_drawn(counts, fraction, message):
    labels = np.repeat([0, 1], counts)
    with pytest.raises(ArgumentError, match=message) as error:
        per_class(labels, 2, fraction)
    assert error.value.argument == "label_fraction"


def test_advice_on_shares_works():
    assert per_class(np.repeat([0, 1], [12, 84]), 2, 0.25) == 12
    assert per_class(np.repeat([0, 1], [50, 50]), 2, 0.02) == 1
    assert per_class(np.repeat([0, 1], [12, 84]), 2, 1.0) is None


def test_a_fifth_is_held_out_of_each_class():
    everything = labelled([0] * 10 + [1] * 2 + [2])
    rest, held = hold_out(everything, seed=0)
    assert np.bincount(held.labels, minlength=3).tolist() == [2, 1, 0]
    assert np.bincount(rest.labels).tolist() == [8, 1, 1]
    assert sorted([*rest.positions, *held.positions]) == list(range(13))
    assert hold_out(labelled([0, 1, 2]), seed=0) is None


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_each_part_has_its_own_rate_and_one_program_serves_all(name):
    settings = FinetuneSettings(optimizer=name, weight_decay=0.01)
    steps, rates = 20, {"encoder": 0.003, "classifier": 0.2}
    rng = np.random.default_rng(0)
    params = {part: {"w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)} for part in rates}
    optimizer, _ = finetune_training._optimizer(settings, steps)
    state = finetune_training._with_rates(optimizer.init(params), rates)
    update = jax.jit(optimizer.update)
    alone = {
        part: make_optimizer(name, warmup_cosine(rate, steps, steps // 10), weight_decay=0.01)
        for part, rate in rates.items()
    }
    states = {part: alone[part].init(params[part]) for part in rates}
    expected = params
    for _ in range(steps):
        gradients = jax.tree.map(lambda p: jnp.cos(3 * p), params)
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for part in rates:
            own = jax.tree.map(lambda p: jnp.cos(3 * p), expected[part])
            updates, states[part] = alone[part].update(own, states[part], expected[part])
            expected = {**expected, part: optax.apply_updates(expected[part], updates)}
    for part in rates:
        np.testing.assert_allclose(params[part]["w"], expected[part]["w"], rtol=2e-5, atol=1e-6)
    assert update._cache_size() == 1


def test_from_the_runs_weights_or_from_scratch_with_the_same_classifier(encoder, dataset):
    still = FinetuneSettings(**QUICK, classifier_learning_rate=1e-30)
    trainer = Trainer(encoder, 2, still, data_mesh())
    everything = Labelled.all_of(dataset.train, 2**20)
    budget = trainer.budget(24, 24)
    before = encoder(TEST_IMAGES)
    tuned, scratch, other = (
        trainer.train(everything, budget, 1e-30, seed, pretrained=pretrained)
        for seed, pretrained in ((0, True), (0, False), (1, False))
    )
    own = encoder.variables["params"]

    def distance(network) -> float:
        params = network.encoder.variables["params"]
        return float(optax.tree.norm(optax.tree.sub(params, own)))

    assert distance(tuned) < 1e-20
    assert distance(scratch) > 1e-2  # of the weights that the run, two epochs before, began with
    assert distance(other) > 1
    np.testing.assert_allclose(tuned.weights, scratch.weights, atol=1e-20)
    assert np.abs(other.weights - scratch.weights).max() > 0.1
    # BatchNorm looks at the new images.
    statistics = (network.variables["batch_stats"] for network in (tuned.encoder, encoder))
    assert optax.tree.norm(optax.tree.sub(*statistics)) > 1e-6
    # The encoder's memory is not given up.
    np.testing.assert_array_equal(encoder(TEST_IMAGES), before)


def test_batches_and_steps():
    trainer = Trainer.__new__(Trainer)
    trainer._settings = FinetuneSettings(batch_size=64, epochs=30, min_steps=100)
    assert trainer.budget(1000, 800) == (64, 450)
    assert trainer.budget(10, 10) == (10, 100)
    assert trainer.budget(60, 48) == (48, 100)


def test_devices_divide_a_batch(encoder):
    trainer = Trainer(encoder, 2, FinetuneSettings(), data_mesh(jax.devices()))
    assert [trainer._mesh(batch).size for batch in (64, 10, 7, 3, 11)] == [8, 5, 7, 3, 1]


@pytest.mark.slow
def test_eight_devices_train_the_same_network(encoder, dataset):
    everything = Labelled.all_of(dataset.train, 2**20)
    networks = []
    for devices in (jax.devices()[:1], jax.devices()):
        trainer = Trainer(encoder, 2, FinetuneSettings(**QUICK), data_mesh(devices))
        budget = trainer.budget(24, 24)
        networks.append(trainer.train(everything, budget, 1e-3, 0, pretrained=True))
    one, eight = (network.encoder(TEST_IMAGES) for network in networks)
    np.testing.assert_allclose(eight, one, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(networks[1].weights, networks[0].weights, atol=1e-3)


def test_the_augmentation_is_the_runs_or_the_one_that_is_named(encoder):
    assert finetune_training.policy_of(encoder, FinetuneSettings()) == encoder.description.policy
    assert encoder.description.policy == policies.NONE
    named = finetune_training.policy_of(encoder, FinetuneSettings(augmentation="digits"))
    assert named == policies.DIGITS


@pytest.fixture(scope="module")
def found(encoder, dataset, tmp_path_factory):
    """Settings, the file, what was found, and the lines that were told."""
    settings = FinetuneSettings(
        **QUICK, label_fraction=(0.1, 1.0), encoder_learning_rate=(1e-3, 1e-2)
    )
    path, told = tmp_path_factory.mktemp("finetune") / "finetune.json", []
    result = finetune(encoder, dataset, settings, path=path, finished=told.append)
    return settings, path, result, told


def test_three_rows_on_the_same_labels(found):
    _, path, result, told = found
    figures = json.loads(path.read_text())
    assert figures == json.loads(json.dumps(result.figures))
    assert [(c["label_fraction"], c["seed"], c["row"]) for c in figures["cells"]] == [
        (fraction, seed, row)
        for fraction in (0.1, 1.0)
        for seed in (0, 1)
        for row in ("fine-tuned", "from scratch", "linear probe")
    ]
    assert [cell["labels"] for cell in figures["cells"]] == [2] * 6 + [24] * 6
    for cell in figures["cells"]:
        assert 0 <= cell["accuracy"] <= 1
        if cell["row"] == "linear probe":
            assert cell["l2"] > 0
            continue
        rates = [tried["encoder_learning_rate"] for tried in cell["tried"]]
        if cell["labels"] == 2:  # none can be held out
            assert rates == []
            assert cell["encoder_learning_rate"] == 1e-2
            assert (cell["batch_size"], cell["steps"]) == (2, 20)
        else:
            assert rates == [1e-3, 1e-2]
            best = max(cell["tried"], key=lambda t: (t["accuracy"], -t["loss"]))
            assert cell["encoder_learning_rate"] == best["encoder_learning_rate"]
            assert (cell["batch_size"], cell["steps"]) == (8, 20)
    assert len(told) == 12
    assert told[0].startswith("10 % of the labels, seed 0, fine-tuned: ")
    assert told[0].endswith("% (encoder's learning rate 0.01)")
    assert told[6].endswith(", chosen on held-out labels)")


def test_means_over_seeds(found):
    figures = found[2].figures
    for row, of in figures["over_seeds"].items():
        own = [
            c["accuracy"] for c in figures["cells"] if (c["row"], c["label_fraction"]) == (row, 1.0)
        ]
        assert of["1.0"] == pytest.approx(np.mean(own))
        assert of["1.0_std"] == pytest.approx(np.std(own, ddof=1))


def test_the_tables_as_people_read_them(found):
    lines = str(found[2]).splitlines()
    assert lines[0] == "mean ± standard deviation over 2 seeds"
    assert re.split("  +", lines[1]) == ["accuracy, %", "10 %, 2 labels", "100 %, 24 labels"]
    assert [line.split("  ")[0] for line in lines[2:5]] == [
        "fine-tuned", "from scratch", "linear probe",
    ]  # fmt: skip
    assert [line.split(":")[0] for line in lines[5:7]] == ["10 %, 2 labels", "100 %, 24 labels"]
    assert lines[8].startswith("encoder's learning rate, by seed")
    assert "0.01 0.01 (not chosen)" in lines[9]
    assert lines[11] == ("chosen on held-out labels from 0.001, 0.01; the classifier's: 0.01")
    assert lines[12:] == [
        "4 of the 4 chosen are an end of these: one beyond may be better",
        "10 %: batches of 2 in place of 8, for there are 2 labelled images",
    ]


def test_what_is_kept_is_not_computed_again(found, encoder, dataset, monkeypatch, tmp_path):
    settings, path, result, _ = found
    copy, told = tmp_path / "finetune.json", []
    cut = json.loads(path.read_text())
    del cut["cells"][7:]
    copy.write_text(json.dumps(cut))
    trained, train = [], Trainer.train

    def counted(self, labelled, budget, rate, seed, **options):
        trained.append((len(labelled), seed))
        return train(self, labelled, budget, rate, seed, **options)

    monkeypatch.setattr(Trainer, "train", counted)
    again = finetune(encoder, dataset, settings, path=copy, finished=told.append)
    assert copy.read_text() == path.read_text()
    assert str(again) == str(result)
    assert len(told) == 5
    # Of seed 0 from scratch, of seed 1 both rows: two rates on four fifths, then all labels.
    assert trained == [(20, 0), (20, 0), (24, 0), *[(20, 1), (20, 1), (24, 1)] * 2]


def test_a_file_of_other_settings_is_left_alone(found, encoder, dataset, tmp_path):
    _, path, *_ = found
    before = path.read_bytes()
    asked = {"label_fraction": (0.5,), "encoder_learning_rate": (1e-3, 1e-2)}
    other = FinetuneSettings(**{**QUICK, "epochs": 2}, **asked)
    with pytest.raises(RunError, match=r"other settings: epochs is 1 there and 2 here\. Choose an"):
        finetune(encoder, dataset, other, path=path)
    moved_on = encoder.with_variables(encoder.variables, step=7)
    own = FinetuneSettings(**QUICK, **asked)
    with pytest.raises(RunError, match="step of the encoder is 6 there and 7 here"):
        finetune(moved_on, dataset, own, path=path)
    assert path.read_bytes() == before
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RunError, match=r"bad\.json cannot be read as the cells of a table"):
        finetune(encoder, dataset, own, path=tmp_path / "bad.json")
    with pytest.raises(RunError, match=r"could not be written: .*gone/f.json: No such file"):
        finetune(encoder, dataset, own, path=tmp_path / "gone" / "f.json")


def test_a_rate_that_diverges_costs_its_cell(encoder, dataset, monkeypatch):
    def diverges(self, labelled, budget, rate, seed, *, pretrained):
        if not pretrained and seed == 1:
            return None
        return Network(encoder, np.zeros((4, 2), np.float32), np.zeros(2, np.float32))

    monkeypatch.setattr(Trainer, "train", diverges)
    settings = FinetuneSettings(**QUICK, label_fraction=(1.0,), encoder_learning_rate=(1e-3, 1e-2))
    result = finetune(encoder, dataset, settings)
    table = str(result).splitlines()
    assert table[3].split() == ["from", "scratch", "n/a"]
    assert "± " in table[2]
    assert result.figures["over_seeds"]["from scratch"] == {}
    assert table[-1] == (
        "100 % of the labels, seed 1, from scratch: diverged (encoder's learning rate 0.001, "
        "chosen on held-out labels); its column has no figure"
    )


def test_a_loss_that_is_not_finite_is_divergence(encoder, dataset):
    settings = FinetuneSettings(**QUICK, classifier_learning_rate=1e38)
    trainer = Trainer(encoder, 2, settings, data_mesh())
    everything = Labelled.all_of(dataset.train, 2**20)
    assert trainer.train(everything, trainer.budget(24, 24), 1e38, 0, pretrained=True) is None


def test_one_rate_is_taken_as_it_is(encoder, dataset):
    settings = FinetuneSettings(
        **{**QUICK, "num_seeds": 1, "min_steps": 100},
        label_fraction=(1.0,),
        encoder_learning_rate=(1e-2,),
    )
    lines = str(finetune(encoder, dataset, settings)).splitlines()
    assert lines[0] == "±: standard error, by the number of test images"
    # The classes differ in the brightness of their middle.
    assert "100.0 ± 0.0" in lines[2]
    assert lines[-1] == "the encoder's learning rate: 0.01; the classifier's: 0.01"


def test_streamed_images_are_those_of_memory(encoder, dataset):
    kept, streamed = (
        draw(Labelled.all_of(dataset.train, limit), 2, 0.5, seed=0) for limit in (2**20, 0)
    )
    for a, b in zip(hold_out(kept, 0), hold_out(streamed, 0), strict=True):
        for x, y in zip(to_arrays(a.images(), 2**20), to_arrays(b.images(), 2**20), strict=True):
            np.testing.assert_array_equal(x, y)
    assert not fits_in_memory(streamed.images(), streamed.max_bytes)
    trainer = Trainer(encoder, 2, FinetuneSettings(**QUICK), data_mesh())
    network = trainer.train(streamed, trainer.budget(12, 12), 1e-3, 0, pretrained=True)
    correct, loss = network.correct_and_loss(dataset.test, 0)
    assert correct.shape == (8,)
    assert np.isfinite(loss)


def test_data_that_cannot_be_used(encoder, dataset):
    with pytest.raises(RunError, match="and arrays has no labels and no labelled test images"):
        finetune(encoder, dataset_from_arrays(TRAIN_IMAGES))
    with pytest.raises(RunError, match="and arrays has no labelled test images"):
        finetune(encoder, dataset_from_arrays(TRAIN_IMAGES, LABELS))
    grey = dataset_from_arrays(TRAIN_IMAGES[..., 0], LABELS, TEST_IMAGES[..., 0], TEST_LABELS)
    with pytest.raises(ArgumentError, match=r"dataset=arrays has images of the shape \(8, 8, 1\)"):
        finetune(encoder, grey)
    # Before anything is trained.
    with pytest.raises(ArgumentError, match=r"label_fraction=0\.01 leaves no image of a class"):
        finetune(encoder, dataset, FinetuneSettings(label_fraction=(1.0, 0.01)))
    with pytest.raises(ArgumentError, match="augmentation=simcl is no augmentation policy"):
        finetune(encoder, dataset, FinetuneSettings(augmentation="simcl"))
