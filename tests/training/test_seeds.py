"""Seeds as one program: each member is what it is by itself, in its numbers and in its folder."""

import json
import os
import signal
from contextlib import closing
from functools import partial
from operator import itemgetter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from alphacl_jax import rules
from alphacl_jax.data.batches import resident_batches, streamed_batches
from alphacl_jax.methods.contrastive import contrastive_method
from alphacl_jax.methods.siamese import SetPredictor, siamese_method
from alphacl_jax.models.heads import Projector
from alphacl_jax.training.checkpoint import Checkpoints, UnusableCheckpointsError
from alphacl_jax.training.loop import (
    Hook,
    InterruptedBySignal,
    NonFiniteLossError,
    Schedule,
    train,
)
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.progress import Progress
from alphacl_jax.training.records import RunRecords
from alphacl_jax.training.seeds import (
    SeedsBatches,
    SeedsCheckpoints,
    SeedsRecorder,
    make_seeds_step,
    stack_states,
    unstack_states,
)
from alphacl_jax.training.state import TrainState, step_key
from alphacl_jax.training.step import make_init, make_train_step
from tests.training.loops import Counting, records_of, saved_steps, train_in

SEEDS = (3, 0, 7)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 1), np.uint8)
LABELS = np.arange(40, dtype=np.int32)


class _Images:
    """A source that is read image by image."""

    image_shape = (6, 6, 1)

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return {"image": IMAGES[index], "label": int(LABELS[index])}


class _Dense(nn.Module):
    """A layer with BatchNorm: quicker to compile than a convolution.

    Smooth, since where a ReLU starts the last bit of its input decides on a gradient.
    """

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4)(x.reshape(len(x), -1))
        return nn.tanh(nn.BatchNorm(use_running_average=not train)(x))


def _make_batch(key, raw):
    images = raw["images"]
    noise = jax.random.normal(key, (len(images), 2, *images.shape[1:]))
    return {"views": images[:, None] / 255 + 0.3 * noise, "labels": raw["labels"]}


def _rate(step):
    return 0.1 / (1 + step)


def _compiled(method, optimizer, mesh):
    """The start, the step of one seed and that of several."""
    raw = {
        "images": jax.ShapeDtypeStruct((16, 6, 6, 1), np.uint8),
        "labels": jax.ShapeDtypeStruct((16,), np.int32),
    }
    return (
        make_init(method, optimizer, _make_batch, raw, mesh),
        make_train_step(method, optimizer, _make_batch, _rate, mesh),
        make_seeds_step(method, optimizer, _make_batch, _rate, mesh),
    )


@pytest.fixture(scope="module")
def trained():
    """Four steps of each seed by itself and of all as one program, on eight devices."""
    mesh, optimizer = data_mesh(), optax.sgd(0.1, momentum=0.9)
    method = contrastive_method(_Dense(), Projector(8, 2, 4, "affine"), rules.direct(0.5, 4), mesh)
    batches = resident_batches(IMAGES, LABELS, 16, mesh, 0)
    init, step, seeds_step = _compiled(method, optimizer, mesh)
    alone = {}
    for seed in SEEDS:
        state, own = init(seed), batches.with_seed(seed)
        for _ in range(4):
            state, metrics = step(state, next(own), True)
        alone[seed] = state, metrics
    stacked = stack_states([init(seed) for seed in SEEDS])
    together = SeedsBatches([batches.with_seed(seed) for seed in SEEDS])
    for _ in range(4):
        given = stacked
        stacked, metrics = seeds_step(given, next(together), True)
    return alone, given, stacked, metrics, seeds_step


def test_a_member_is_what_it_is_alone(trained):
    alone, _, stacked, metrics, _ = trained

    def close(a, b, err_msg=""):
        # Float32 sums in another order, some of which nearly cancel: to the scale of the array.
        scale = np.abs(b).max() if np.size(b) else 0.0
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * scale + 1e-5, err_msg=err_msg)

    for i, (member, seed) in enumerate(zip(unstack_states(stacked), SEEDS, strict=True)):
        state, of_seed = alone[seed]
        jax.tree.map(close, member, state)
        np.testing.assert_array_equal(member.key, state.key)
        assert metrics.keys() == of_seed.keys()
        for name in metrics:
            close(metrics[name][i], of_seed[name], err_msg=name)
    # The members differ by far more than that tolerance.
    assert np.ptp(metrics["loss"]) > 0.01 * np.abs(metrics["loss"]).max()


class _Layer(nn.Module):
    """A smooth layer of float64."""

    @nn.compact
    def __call__(self, x, train):
        del train
        return nn.tanh(nn.Dense(4, param_dtype=jnp.float64)(x.reshape(len(x), -1)))


@pytest.mark.parametrize(
    "make_method",
    [
        lambda mesh: contrastive_method(_Layer(), _Layer(), rules.direct(0.5, 4), mesh),
        lambda _: siamese_method(
            _Layer(), _Layer(), SetPredictor("directpred"), target="stop_gradient"
        ),
    ],
    ids=["contrastive", "directpred"],
)
def test_at_each_of_ten_steps_a_member_is_what_it_is_alone(x64, make_method):
    mesh, optimizer = _mesh(), optax.sgd(0.1, momentum=0.9)
    method = make_method(mesh)
    batches = resident_batches(IMAGES, LABELS, 16, mesh, 0)
    init, step, seeds_step = _compiled(method, optimizer, mesh)
    members, orders = [init(seed) for seed in SEEDS], [batches.with_seed(s) for s in SEEDS]
    stacked = stack_states(members)
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(stacked.params))
    for _ in range(10):
        raws = [next(order) for order in orders]
        stacked, metrics = seeds_step(stacked, raws, True)
        alone = [step(state, one, True) for state, one in zip(members, raws, strict=True)]
        members = [state for state, _ in alone]
        close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
        for i, (_, of_seed) in enumerate(alone):
            jax.tree.map(close, jax.tree.map(itemgetter(i), metrics), of_seed)
        for ours, theirs in zip(unstack_states(stacked), members, strict=True):
            jax.tree.map(close, ours, theirs)


def test_the_step_is_compiled_once_and_its_state_donated_and_on_each_device(trained):
    _, given, stacked, _, seeds_step = trained
    assert seeds_step._cache_size() == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.params))
    for leaf in jax.tree.leaves(stacked):
        assert leaf.sharding.is_fully_replicated
        assert len(leaf.sharding.device_set) == 8


def test_stacking_changes_no_bit_and_no_placement(trained):
    members = [trained[0][seed][0] for seed in SEEDS]
    stacked = stack_states(members)
    assert stacked.step.shape == (3,)
    for member, again in zip(members, unstack_states(stacked), strict=True):
        jax.tree.map(np.testing.assert_array_equal, member, again)
        jax.tree.map(lambda a, b: a.sharding == b.sharding or pytest.fail("moved"), member, again)


def _mesh():
    return jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=jax.devices()[:1])


@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_another_seed_is_another_order_of_the_same_images(kind):
    def open_seed(seed):
        if kind == "resident":
            return resident_batches(IMAGES, LABELS, 16, _mesh(), seed)
        return streamed_batches(_Images(), 16, _mesh(), seed)

    base = open_seed(1)
    next(base)
    other = base.with_seed(2)
    own = [np.array(next(other)["labels"]) for _ in range(3)]
    fresh = open_seed(2)
    for labels in own:
        np.testing.assert_array_equal(labels, next(fresh)["labels"])
    assert other.get_state() == fresh.get_state()
    # And the first goes on where it was.
    first = open_seed(1)
    next(first)
    np.testing.assert_array_equal(next(base)["labels"], next(first)["labels"])
    assert not np.array_equal(own[0], np.array(next(open_seed(1))["labels"]))


def test_images_are_held_once():
    before = sum(a.shape == IMAGES.shape for a in jax.live_arrays())
    base = resident_batches(IMAGES, LABELS, 16, _mesh(), 0)
    together = SeedsBatches([base.with_seed(seed) for seed in range(5)])
    assert [batch["images"].shape for batch in next(together)] == [(16, 6, 6, 1)] * 5
    assert sum(a.shape == IMAGES.shape for a in jax.live_arrays()) == before + 1


def test_the_positions_of_all_members_are_kept():
    def opened():
        base = resident_batches(IMAGES, LABELS, 16, _mesh(), 0)
        return SeedsBatches([base.with_seed(seed) for seed in SEEDS])

    batches = opened()
    assert batches.steps_per_epoch == 2
    next(batches)
    state = json.loads(json.dumps(batches.get_state()))
    assert [member["seed"] for member in state["members"]] == list(SEEDS)
    again = opened()
    again.set_state(state)
    for one, other in zip(next(batches), next(again), strict=True):
        np.testing.assert_array_equal(one["labels"], other["labels"])
    state["members"].reverse()
    with pytest.raises(ValueError, match="seed is 7 there and 3 here"):
        opened().set_state(state)


# The loop and the checkpoints, with a step that needs no model.

SCHEDULE = Schedule(total_steps=8, log_every=2, save_every=3)


def _one(state, batch, recorded):
    noise = jax.random.normal(step_key(state), (3,))
    params = 0.9 * state.params + batch["images"] * noise
    metrics = {
        "loss": jnp.sum(params),
        "energy": jnp.where(recorded, batch["images"], jnp.nan),
        "learning_rate": 0.1 * state.step,
        "gradient_norm": jnp.float32(1),
        "parameter_norm": jnp.float32(2),
    }
    return state._replace(step=state.step + 1, params=params), metrics


@partial(jax.jit, static_argnames="bad")
def _seeds_step(state, batches, recorded, bad=None):
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    state, metrics = jax.vmap(_one, in_axes=(0, 0, None))(state, stacked, recorded)
    if bad is not None:
        name, member, step = bad
        wrong = (state.step == step) & (jnp.arange(len(state.step)) == member)
        metrics[name] = jnp.where(wrong, jnp.nan, metrics[name])
    return state, metrics


def _state(seed) -> TrainState:
    key = jax.random.key_data(jax.random.key(seed))
    state = TrainState(jnp.int32(0), jnp.full((3,), seed / 10), {}, (), key)
    return jax.device_put(state, NamedSharding(_mesh(), P()))


def _folders(root):
    folders = {seed: root / f"seed-{seed}" for seed in SEEDS}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    return folders


def _train(root, at=None, act=None, bad=None, schedule=SCHEDULE, hooks=()):
    folders = list(_folders(root).values())
    records = RunRecords(SeedsRecorder(folders), Progress(8, "images", 6, ("energy",)))
    with closing(_opened(root)) as checkpoints:
        return train(
            stack_states([_state(seed) for seed in SEEDS]),
            partial(_seeds_step, bad=bad),
            SeedsBatches(
                [
                    Counting(steps_per_epoch=4),
                    Counting(at, act, steps_per_epoch=4),
                    Counting(steps_per_epoch=4),
                ]
            ),
            schedule,
            checkpoints,
            records,
            hooks,
            mesh=_mesh(),
        )


def _train_alone(folder, seed, step, schedule=SCHEDULE):
    return train_in(folder, _state(seed), step, Counting(steps_per_epoch=4), schedule)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    return root, _train(root)


def test_each_member_has_the_records_and_checkpoints_of_its_own_run(whole, tmp_path):
    root, last = whole
    for i, (seed, folder) in enumerate(_folders(root).items()):
        alone = tmp_path / str(seed)
        alone.mkdir()
        state = _train_alone(alone, seed, jax.jit(_one))
        np.testing.assert_allclose(last.params[i], state.params, rtol=1e-6)
        assert saved_steps(folder) == saved_steps(alone) == [3, 6, 8]
        for ours, theirs in zip(records_of(folder), records_of(alone), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)
        assert list((folder / "tensorboard").iterdir())
        # The ordinary loop takes the member over, finds nothing to do, and gives its state back.
        again = _train_alone(folder, seed, None)
        np.testing.assert_array_equal(again.params, last.params[i])


def test_progress_is_one_line_with_the_mean_over_members(tmp_path, capsys):
    last = _train(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    losses = [records_of(folder)[-1]["loss"] for folder in _folders(tmp_path).values()]
    assert lines[-1].startswith(f"step 8/8, loss {np.mean(losses):.4f}, energy 8.0, ")
    assert len(lines) == 2
    assert last.step.tolist() == [8, 8, 8]


class Killed(Exception):
    """Stands for a SIGKILL."""


def _die():
    raise Killed


@pytest.mark.parametrize("at", [2, 4, 8])
def test_seeds_that_died_go_on_exactly(whole, tmp_path, at):
    with pytest.raises(Killed):
        _train(tmp_path, at, _die)
    np.testing.assert_array_equal(_train(tmp_path).params, whole[1].params)
    for ours, theirs in zip(_folders(tmp_path).values(), _folders(whole[0]).values(), strict=True):
        assert records_of(ours) == records_of(theirs)


def test_cut_off_between_the_saves_of_two_members(whole, tmp_path, caplog):
    with pytest.raises(Killed):
        _train(tmp_path, 7, _die)
    folders = list(_folders(tmp_path).values())
    checkpoints = Checkpoints(folders[2] / "checkpoints")
    checkpoints.forget_after(3)
    checkpoints.close()
    caplog.clear()
    state = _train(tmp_path)
    assert f"The run of {folders[0]} goes back to step 3; its checkpoint of step 6" in caplog.text
    assert str(folders[2]) not in caplog.text
    np.testing.assert_array_equal(state.params, whole[1].params)
    assert [saved_steps(folder) for folder in folders] == [[3, 6, 8]] * 3


def test_a_signal_saves_all_members_and_stops(whole, tmp_path):
    with pytest.raises(InterruptedBySignal, match="step 5 of 8 is saved"):
        _train(tmp_path, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert [saved_steps(folder) for folder in _folders(tmp_path).values()] == [[3, 5]] * 3
    np.testing.assert_array_equal(_train(tmp_path).params, whole[1].params)


@pytest.mark.parametrize("name", ["loss", "gradient_norm", "parameter_norm"])
def test_nan_names_the_member(tmp_path, name):
    message = f"^{name} is nan at step 5; training stopped, the checkpoint of step 3 is"
    with pytest.raises(NonFiniteLossError, match=message) as error:
        _train(tmp_path, bad=(name, 2, 5))
    assert SEEDS[error.value.member] == 7
    for folder in _folders(tmp_path).values():
        assert saved_steps(folder) == [3]
        assert [record["step"] for record in records_of(folder)] == [2, 4]


def test_hooks_may_find_a_value_for_each_member(tmp_path):
    def run(step, state):
        return {"sum": jnp.sum(state.params, axis=1).tolist(), "same": 1.5}

    last = _train(tmp_path, hooks=[Hook(3, run)])
    for i, folder in enumerate(_folders(tmp_path).values()):
        records = records_of(folder)
        assert [r["step"] for r in records] == [2, 3, 4, 6, 8]
        assert [r["step"] for r in records if "sum" in r] == [3, 6, 8]
        assert (records[-1]["sum"], records[-1]["same"]) == (float(last.params[i].sum()), 1.5)


def test_members_that_were_recorded_at_different_steps_go_on_together(tmp_path):
    """One of them trained by itself and was recorded more seldom."""
    long = Schedule(total_steps=8, log_every=4, save_every=3)
    for i, (seed, folder) in enumerate(_folders(tmp_path).items()):
        step, batches = jax.jit(_one), Counting(4, _die, steps_per_epoch=4)
        with pytest.raises(Killed):
            train_in(folder, _state(seed), step, batches, long if i == 1 else SCHEDULE)
    checkpoints = _opened(tmp_path)
    _, position = checkpoints.restore(stack_states([_state(seed) for seed in SEEDS]))
    checkpoints.close()
    # Steps 1 to 3 are waiting of one, step 3 of the others: step 3 of all.
    assert position["unrecorded"]["parameter_norm"] == [[2.0, 2.0, 2.0]]
    assert _train(tmp_path).step.tolist() == [8, 8, 8]


def _damage(folder, step):
    for path in (folder / "checkpoints" / str(step)).rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def _opened(root):
    return SeedsCheckpoints([folder / "checkpoints" for folder in _folders(root).values()])


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of all members at steps 3, 6 and 8."""
    _train(tmp_path)
    return tmp_path, stack_states([_state(seed) for seed in SEEDS])


def test_damage_to_one_member_takes_all_back_to_the_step_before(saved, caplog):
    root, like = saved
    _damage(_folders(root)[0], 8)
    checkpoints = _opened(root)
    state, position = checkpoints.restore(like)
    assert state.step.tolist() == [6, 6, 6]
    assert position["data"] == {"members": [{"position": 6}] * 3}
    assert position["unrecorded"] == {n: [] for n in ("loss", "gradient_norm", "parameter_norm")}
    assert checkpoints.steps() == [3, 6]
    assert "checkpoint of step 8 is damaged" in caplog.text
    checkpoints.close()


def test_damage_to_all_that_the_members_have_in_common(saved):
    root, like = saved
    folders = list(_folders(root).values())
    for step, folder in zip((3, 6, 8), folders, strict=True):
        _damage(folder, step)
    checkpoints = _opened(root)
    with pytest.raises(UnusableCheckpointsError, match="no checkpoint that all seeds have can be"):
        checkpoints.restore(like)
    assert checkpoints.restore(like) is None
    assert [saved_steps(folder) for folder in folders] == [[]] * 3
    checkpoints.close()


def test_nothing_in_common_is_a_start_from_the_first_step(tmp_path):
    like = stack_states([_state(seed) for seed in SEEDS])
    checkpoints = _opened(tmp_path)
    assert checkpoints.restore(like) is None
    checkpoints.close()
