"""Every setting of a method reaches what it is a setting of."""

import jax
import numpy as np
import pytest

from alphacl_jax.runs import methods
from alphacl_jax.runs.methods import make_method, parts_of
from alphacl_jax.training.mesh import data_mesh
from tests.tiny_runs import make_settings

SHAPE, STEPS = (8, 8, 3), 100


@pytest.fixture
def made(monkeypatch):
    """What the method's maker was given, by the flags of a run."""

    def of(maker, *arguments):
        given = {}

        def record(*positional, **named):
            given.update(named, modules=positional)

        monkeypatch.setattr(methods, maker, record)
        make_method(make_settings(*arguments), SHAPE, data_mesh(jax.devices()[:1]), STEPS)
        return given

    return of


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("method", ["contrastive", "directclr"])
def test_pairs(made, method, labelled):
    arguments = ["--negatives=same_view", "--nostop_gradient", "--block_size=7"]
    given = made(
        "contrastive_method", f"--method={method}", *arguments, f"--labelled={labelled}".lower()
    )
    assert given["labelled"] is labelled
    assert (given["negatives"], given["stop_gradient"], given["block_size"]) == (
        "same_view",
        False,
        7,
    )


@pytest.mark.parametrize(
    ("maker", "method"),
    [
        ("contrastive_method", "contrastive"),
        ("contrastive_method", "directclr"),
        ("supervised_method", "supervised"),
        ("siamese_method", "siamese"),
        ("queue_method", "queue"),
    ],
)
def test_chunks_of_a_batch_and_a_norm_of_each_image(made, maker, method):
    given = made(maker, f"--method={method}", "--micro_batch=32", "--encoder_norm=group")
    assert given["micro_batch"] == 32
    assert given["modules"][0].norm == "group"


def test_the_part_of_the_features(made):
    given = made("contrastive_method", "--method=directclr", "--subvector=5")
    assert given["modules"][1].size == 5


@pytest.mark.parametrize(
    ("arguments", "halfway", "end"),
    [
        (["--ema_momentum=0.9"], 0.95, 1.0),
        (["--ema_momentum=0.9", "--ema_schedule=constant"], 0.9, 0.9),
    ],
)
@pytest.mark.parametrize(
    ("maker", "method"), [("siamese_method", "siamese"), ("queue_method", "queue")]
)
def test_the_momentum_over_the_run(made, maker, method, arguments, halfway, end):
    momentum = made(maker, f"--method={method}", *arguments)["momentum"]
    found = [float(momentum(np.float32(count))) for count in (0, STEPS // 2, STEPS)]
    np.testing.assert_allclose(found, [0.9, halfway, end], rtol=1e-6)


def test_the_queue(made):
    given = made("queue_method", "--method=queue", "--queue_size=512", "--nostop_gradient")
    assert (given["size"], given["stop_gradient"]) == (512, False)


def test_a_predictor_that_is_set(made):
    given = made(
        "siamese_method",
        *("--method=siamese", "--predictor=directcopy", "--predictor_eps=0.3"),
        *("--predictor_every=5", "--correlation_decay=0.7"),
    )
    predictor = given["modules"][2]
    assert (predictor.kind, predictor.eps, predictor.every) == ("directcopy", 0.3, 5)
    assert given["correlation_decay"] == 0.7


@pytest.mark.parametrize("target", ["stop_gradient", "shared"])
def test_a_target_without_an_average(made, target):
    given = made("siamese_method", "--method=siamese", f"--target={target}")
    assert given["target"] == target
    assert given["momentum"] is None


def test_a_predictor_with_an_optimiser_of_its_own():
    settings = make_settings(
        *("--method=siamese", "--predictor_rate=10", "--predictor_constant_rate"),
        *("--predictor_weight_decay=0.2", "--learning_rate=0.01"),
    )
    part = parts_of(settings)["predictor"]
    assert (part.rate, part.weight_decay) == (10, 0.2)
    assert float(part.schedule(np.int32(12))) == pytest.approx(0.01)
    assert parts_of(make_settings("--method=siamese")) == {}
