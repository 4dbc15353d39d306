"""Settings check themselves, name what is wrong, and survive their text."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from alphacl_jax.data import policies
from alphacl_jax.data.decoding import MAX_MEGAPIXELS, Decoding
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs import flag_file
from alphacl_jax.runs.common_settings import LARGEST_SEED
from alphacl_jax.runs.fields import kind_of, parse, setting
from alphacl_jax.runs.finetune_settings import FinetuneSettings
from alphacl_jax.runs.flag_file import as_mapping, fields_of, from_mapping, from_text, to_text
from alphacl_jax.runs.methods import (
    MAKERS,
    Maker,
    make_batch_of,
    make_method,
    parts_of,
)
from alphacl_jax.runs.run import open_run
from alphacl_jax.runs.settings import (
    METHODS,
    AugmentationSettings,
    ContrastiveSettings,
    DataSettings,
    EvaluationSettings,
    MethodSettings,
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    SiameseSettings,
    SupervisedSettings,
)
from tests.tiny_runs import make_settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: OptimizerSettings(batch_size=96, micro_batch=36),
            "micro_batch=36 must divide the batch, which has 96 images",
        ),
        (
            lambda: OptimizerSettings(micro_batch="many"),
            "micro_batch=many must be a whole number >= 1, or auto",
        ),
        (lambda: OptimizerSettings(micro_batch=0), "micro_batch=0 must be a whole number >= 1, or"),
        (lambda: OptimizerSettings(micro_batch=True), "micro_batch=True must be a whole number"),
        (lambda: ContrastiveSettings(block_size=8.5), "block_size=8.5 must be a whole number >= 1"),
        (
            lambda: OptimizerSettings(activations_mb=100),
            "activations_mb=100 is set, and only runs with micro_batch=auto read it",
        ),
        (
            lambda: OptimizerSettings(micro_batch="auto", activations_mb=0),
            "activations_mb=0 is out of range; it must be a finite number >= 1",
        ),
        (lambda: DataSettings(image_size=0), "image_size=0 is out of range; .* number >= 1"),
        (lambda: DataSettings(image_size=8.5), "image_size=8.5 must be a whole number"),
        (lambda: DataSettings(dataset=None), "dataset=None must be given"),
        (lambda: DataSettings(dataset="folder", pixel_range="9"), "pixel_range=9 must be LOW:HIGH"),
        (lambda: DataSettings(pixel_range="auto"), "pixel_range=auto is set, and only folders"),
        (
            lambda: DataSettings(max_megapixels=179),
            "max_megapixels=179 is out of range; .* <= 178 and > 0",
        ),
        (lambda: ModelSettings(widths=[4]), r"widths=\[4\] must be whole numbers >= 1, such as"),
        (lambda: ModelSettings(widths=(4, True)), "widths=4,True must be whole numbers"),
        (lambda: FinetuneSettings(label_fraction=(0.1, 0)), "label_fraction=0 is out of range; .*"),
        (lambda: FinetuneSettings(label_fraction=(2.0,)), "label_fraction=2 is .* <= 1 and > 0"),
        (lambda: FinetuneSettings(label_fraction=()), "label_fraction= must be numbers, such as"),
        (lambda: FinetuneSettings(label_fraction=0.1), "label_fraction=0.1 must be numbers, such"),
        (
            lambda: FinetuneSettings(encoder_learning_rate=("1",)),
            "encoder_learning_rate=1 must be numbers, such as",
        ),
        (
            lambda: FinetuneSettings(seed=LARGEST_SEED, num_seeds=2),
            "num_seeds=2 goes beyond the largest seed",
        ),
        (lambda: ModelSettings(encoder="resnet19"), "encoder=resnet19 is unknown. Did you mean"),
        (lambda: ContrastiveSettings(loss="ntxent"), "loss=ntxent .* Did you mean info_nce?"),
        (lambda: ContrastiveSettings(loss="simclr"), "loss=simclr .* Did you mean info_nce?"),
        (lambda: ContrastiveSettings(loss="byol"), "loss=byol is not here: it has no negatives"),
        (lambda: ContrastiveSettings(loss="supcon"), "loss=supcon is not here: it reads labels"),
        (lambda: AugmentationSettings(views=3), "views=3 must be a string"),
        (lambda: AugmentationSettings(small_crop_scale=1), "small_crop_scale=1 must be a string"),
        (lambda: ContrastiveSettings(loss="margin"), "loss=margin is not here: it reads labels"),
        (
            lambda: SiameseSettings(predictor="none", correlation_decay=0.9),
            "correlation_decay=0.9 is set, and only methods with a predictor",
        ),
        (lambda: SupervisedSettings(loss="supcon"), "loss=supcon .* Did you mean supcon_out?"),
        (lambda: ContrastiveSettings(temperature=float("nan")), "temperature=nan is out of range"),
        (lambda: ContrastiveSettings(stop_gradient=1), "stop_gradient=1 must be True or False"),
        (lambda: ContrastiveSettings(block_size=0), "block_size=0 must be a whole number >= 1"),
        (lambda: OptimizerSettings(learning_rate=1e300), "learning_rate=1e.300 is no number of fl"),
        (lambda: ContrastiveSettings(temperature=1e-50), "temperature=1e-50 is no number of float"),
        (lambda: OptimizerSettings(learning_rate="1"), "learning_rate=1 must be a number"),
        (lambda: OptimizerSettings(batch_size=True), "batch_size=True must be a whole number"),
        (lambda: EvaluationSettings(evaluate="some"), "evaluate=some is unknown"),
        (lambda: RunSettings(seed=LARGEST_SEED + 1), "seed=.* is out of range; .* <= 2.147"),
        (
            lambda: RunSettings(seed=LARGEST_SEED, num_seeds=2),
            "num_seeds=2 goes beyond the largest seed",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        make()


def test_how_files_are_decoded_follows_from_the_settings():
    assert DataSettings().decoding == Decoding(None, MAX_MEGAPIXELS)
    own = DataSettings(dataset="folder", pixel_range="-1024:3071", max_megapixels=2)
    assert own.decoding == Decoding((-1024, 3071), 2)
    assert DataSettings(dataset="folder", pixel_range="auto").decoding.pixel_range == "auto"


def test_each_setting_has_a_text_and_its_default_fits():
    for method in METHODS:
        for name, (owner, field) in fields_of(method).items():
            assert len(field.metadata["text"]) > 3, name
            kind_of(owner, name)
            owner()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"data": 3}, "data=3 must be of type DataSettings"),
        ({"method": OptimizerSettings()}, "method=OptimizerSettings.* must be of type Contrastive"),
        ({"model": ContrastiveSettings()}, "model=Contrastive.* must be of type ModelSettings"),
    ],
)
def test_settings_in_the_place_of_others_are_named(groups, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        RunSettings(**groups)


@dataclasses.dataclass(frozen=True)
class _OtherSettings(MethodSettings):
    temperature: float = setting(0.1, "tau > 0, lower.", above=0)
    momentum_of_target: float = setting(0.99, "Of the moving average.", lower=0, below=1)


@pytest.fixture
def other_method(monkeypatch):
    """A second method, with a temperature of its own and without a projector."""
    for table in (METHODS, flag_file.METHODS):
        monkeypatch.setitem(table, "other", _OtherSettings)
    made = []

    def method(settings, image_shape, mesh, total_steps):
        made.append(settings)
        return "method"

    maker = Maker(method, lambda *of: "batch", unread=("projector_dim",))
    monkeypatch.setitem(MAKERS, "other", maker)
    return made


def test_each_method_has_its_own_defaults_and_reads_its_own_settings(other_method):
    assert make_settings().method == ContrastiveSettings(temperature=0.5)
    assert make_settings("--method=other").method == _OtherSettings(temperature=0.1)
    assert make_settings("--method=other", "--temperature=0.5").method.temperature == 0.5
    for arguments, message in (
        (["--method=other", "--power=3"], "power=3.0 is set, and the method other does not read"),
        (["--momentum_of_target=0.5"], "momentum_of_target=0.5 is set, and the method contrastive"),
    ):
        with pytest.raises(ArgumentError, match=message):
            make_settings(*arguments)


def test_a_method_makes_its_batch_and_refuses_settings_of_networks_it_has_not(other_method):
    settings = RunSettings(method=_OtherSettings())
    assert make_method(settings, (4, 4, 1), None) == "method"
    assert other_method == [settings]
    assert make_batch_of(settings, None, None) == "batch"
    assert from_text(to_text(settings)) == settings
    wide = dataclasses.replace(settings, model=ModelSettings(projector_dim=3))
    with pytest.raises(ArgumentError, match="projector_dim=3 is set, and only other methods than"):
        make_method(wide, (4, 4, 1), None)


def test_a_mapping_and_a_text_give_the_settings_back():
    settings = RunSettings(
        seed=3,
        data=DataSettings(data_dir="/some where/a=b, c", image_size=7),
        method=ContrastiveSettings(loss="triplet", margin=-0.25, stop_gradient=True),
        optimizer=OptimizerSettings(clip_norm=3.0, learning_rate=1e-7),
        model=ModelSettings(widths=(3, 5)),
        evaluation=EvaluationSettings(supervised=True, save_minutes=0.5),
    )
    assert from_mapping(as_mapping(settings)) == settings
    assert from_text(to_text(settings)) == settings
    assert "--supervised\n" in to_text(settings)
    assert "--data_dir=/some where/a=b, c\n" in to_text(settings)


def test_a_mapping_with_a_setting_that_there_is_not():
    with pytest.raises(ArgumentError, match="depth=3 is no setting of the method contrastive"):
        from_mapping({"depth": 3})
    with pytest.raises(ArgumentError, match="method=none is none of contrastive"):
        from_mapping({"method": "none"})


def test_every_method_has_a_maker():
    assert set(MAKERS) == set(METHODS)


def test_no_two_settings_share_a_name():
    for method in METHODS:
        names = [
            field.name
            for group in dataclasses.fields(RunSettings)
            for field in (
                [group]
                if group.metadata
                else dataclasses.fields(METHODS[method] if group.name == "method" else group.type)
                if not isinstance(group.type, str)
                else []
            )
        ]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("widths", "3,5", (3, 5)),
        ("clip_norm", "", None),
        ("clip_norm", "2", 2.0),
        ("block_size", "64", 64),
        ("supervised", "true", True),
        ("supervised", "False", False),
    ],
)
def test_texts_become_values(name, text, value):
    owner, field = fields_of("contrastive")[name]
    assert parse(owner, field, text) == value


MESH = jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=jax.devices()[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method=supervised", "--loss=info_nce"], "loss=info_nce is unknown. .* supcon_out"),
        (["--method=supervised", "--loss=margin", "--temperature=1"], "temperature=1.0 is set, an"),
        (["--method=supervised", "--margin=1"], "margin=1.0 is set, and only the losses margin, t"),
        (["--method=directclr", "--projector_dim=9"], "projector_dim=9 is set, and only other met"),
        (["--method=queue", "--queue_size=1000"], "queue_size=1000 must be a multiple of 256, the"),
        (["--method=queue", "--negatives=same_view"], "negatives=same_view is set, and the method"),
        (["--method=siamese", "--loss=mine"], "loss=mine is set, and the method siamese does not"),
        (
            ["--method=siamese", "--predictor=linear", "--predictor_hidden=4"],
            "predictor_hidden=4 is",
        ),
        (
            ["--method=siamese", "--predictor=none", "--predictor_rate=4"],
            "predictor_rate=4.0 is set",
        ),
        (
            ["--method=siamese", "--predictor_eps=1"],
            "predictor_eps=1.0 is set, and only the predic",
        ),
        (
            ["--method=siamese", "--target=shared", "--ema_momentum=0.5"],
            "ema_momentum=0.5 is set, ",
        ),
        (["--views=3"], "views=3 views are made of each image, and the method contrastive reads 2"),
        (
            ["--method=queue", "--views=2+4"],
            r"views=2\+4 views are made of each image, and the method queue",
        ),
        (["--views=0"], "views=0 must be a number of views, such as 2, or of large and small"),
        (
            ["--small_side=4"],
            "small_side=4 is set, and only runs with small views, such as views=2",
        ),
        (
            ["--method=supervised", "--views=3", "--second_view_overrides=hue=0"],
            "second_view_overrides=hue=0 is set, and only runs with two large views, such",
        ),
        (
            ["--second_view_overrides=solar=1"],
            "second_view_overrides=solar=1 cannot be used: unknown augmentation field 'solar'",
        ),
        (
            ["--second_view_overrides=hue=1"],
            "second_view_overrides=hue=1 cannot be used: hue=1.0 must be at most 0.5",
        ),
        (["--views=2+2", "--small_crop_scale=0.5"], "small_crop_scale=0.5 must be LOW:HIGH with"),
        (["--projector_depth=0", "--projector_output_norm=affine"], "projector_output_norm=affine"),
    ],
)
def test_settings_of_methods_that_do_not_fit(arguments, message):
    with pytest.raises((ArgumentError, RunError), match=f"^(--)?{message}"):
        open_run(make_settings(*arguments), MESH)


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        ([], "alpha_direct"),
        (["--method=supervised", "--loss=triplet_hard"], "triplet_hard"),
        (["--method=directclr", "--subvector=8"], "directclr-alpha_direct"),
        (["--method=queue"], "queue-alpha_direct"),
        (["--method=siamese"], "byol"),
        (["--method=siamese", "--target=stop_gradient"], "simsiam"),
        (["--method=siamese", "--predictor=directcopy"], "directcopy"),
        (["--method=siamese", "--predictor=none", "--target=shared"], "siamese-none-shared"),
    ],
)
def test_each_method_is_made_and_named(arguments, label):
    settings = make_settings(*arguments)
    make_method(settings, (8, 8, 1), MESH)
    assert settings.method.label == label
    assert from_text(to_text(settings)) == settings


def test_a_predictor_has_a_rate_and_a_weight_decay_of_its_own():
    assert parts_of(make_settings("--method=siamese")) == {}
    own = ["--predictor_rate=3", "--predictor_constant_rate", "--predictor_weight_decay=0"]
    settings = make_settings("--method=siamese", "--learning_rate=0.5", *own)
    part = parts_of(settings)["predictor"]
    assert (part.rate, part.weight_decay) == (3.0, 0.0)
    assert float(part.schedule(77)) == 0.5


def test_views_of_two_sizes():
    own = AugmentationSettings(views="2+3")
    assert (own.large_views, own.small_views) == (2, 3)
    settings = RunSettings(method=SupervisedSettings(), augmentation=own)
    colours = Preprocessing((9, 8, 3), (0.5,) * 3, (0.2,) * 3)
    make_batch = make_batch_of(settings, policies.NONE, colours)
    raw = {"images": jnp.zeros((4, 9, 8, 3), jnp.uint8), "labels": jnp.arange(4)}
    shapes = jax.eval_shape(make_batch, jax.random.key(0), raw)
    assert shapes["views"].shape == (4, 2, 9, 8, 3)
    assert shapes["small_views"].shape == (4, 3, 4, 4, 3)


@pytest.mark.parametrize("views", ["2", "2+3"])
def test_the_second_view_alone_is_grey(views):
    own = AugmentationSettings(views=views, second_view_overrides="grayscale_prob=1")
    settings = RunSettings(method=SupervisedSettings(), augmentation=own)
    assert from_text(to_text(settings)) == settings
    colours = Preprocessing((8, 8, 3), (0.0,) * 3, (1.0,) * 3)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    # The same function makes the batches of a run and of one that is read back.
    make_batch = make_batch_of(from_text(to_text(settings)), policies.NONE, colours)
    batch = make_batch(jax.random.key(0), {"images": jnp.asarray(images), "labels": jnp.arange(4)})
    assert np.ptp(batch["views"][:, 1], axis=-1).max() < 1e-5
    np.testing.assert_allclose(batch["views"][:, 0], images / 255, atol=1e-5)
    if own.small_views:
        assert np.ptp(batch["small_views"], axis=-1).mean() > 0.1


def test_changes_of_the_second_view_are_text():
    with pytest.raises(ArgumentError, match="second_view_overrides=3 must be a string"):
        AugmentationSettings(second_view_overrides=3)
