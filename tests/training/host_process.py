"""One of two processes that tests/training/test_hosts.py starts; says what it found as JSON.

python host_process.py FOLDER PORT PROCESS
"""

import contextlib
import json
import signal
import socket
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alphacl_jax.data import batches
from alphacl_jax.data.drawn_batches import DrawnBatches
from alphacl_jax.methods.method import Method
from alphacl_jax.training import hosts
from alphacl_jax.training.agreement import DisagreementError, from_first, require_agreement
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import Hook, Schedule, train
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.progress import Progress
from alphacl_jax.training.records import Recorder, RunRecords
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import make_init, make_train_step
from alphacl_jax.training.vote import StopVote

IMAGES, BATCH, STEPS = 37, 16, 5


class Numbered:
    """Image i is filled with i and has label 100 + i; remembers what was read."""

    image_shape = (2, 2, 3)

    def __init__(self):
        self.read = []

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        self.read.append(int(index))
        return {"image": np.full((2, 2, 3), index, np.uint8), "label": 100 + index}


def _iterators(mesh):
    source = Numbered()
    images, labels = (np.stack([source[i][k] for i in range(IMAGES)]) for k in ("image", "label"))
    source.read.clear()
    resident = batches.resident_batches(images, labels.astype(np.int32), BATCH, mesh, seed=3)

    def draw(key, labels):
        chosen = labels[jax.random.randint(key, (BATCH,), 0, IMAGES)]
        return {"labels": chosen, "noise": jax.random.bits(key, (BATCH, 3))}

    return source, {
        "resident": resident,
        "drawn": DrawnBatches(labels, draw, BATCH, 2, mesh, seed=3),
        "streamed": batches.streamed_batches(source, BATCH, mesh, seed=3),
    }


def check_batches():
    """Each shard of this process is the same rows of the batch that one process alone makes."""
    mesh = data_mesh()
    alone = Mesh(np.array(jax.local_devices()[:1]), ("data",), axis_types=(AxisType.Auto,))
    source, mine = _iterators(mesh)
    _, whole = _iterators(alone)
    rows = set()
    for kind in mine:
        for _ in range(STEPS):
            part, expected = next(mine[kind]), next(whole[kind])
            for name, array in part.items():
                assert array.shape == expected[name].shape
                assert array.sharding.is_equivalent_to(NamedSharding(mesh, P("data")), array.ndim)
                for shard in array.addressable_shards:
                    np.testing.assert_array_equal(shard.data, expected[name][shard.index])
                    rows.add((shard.index[0].start, shard.index[0].stop))
        assert mine[kind].get_state() == whole[kind].get_state()
    return {"rows": sorted(rows), "read": len(source.read)}


def _state(step):
    """The same on all devices, made by all processes."""
    everywhere = NamedSharding(data_mesh(), P())
    make = jax.jit(
        lambda: TrainState(
            step=jnp.int32(step),
            params={"w": jax.random.normal(jax.random.key(step), (64, 65))},
            method_state={},
            opt_state=(),
            key=jax.random.key_data(jax.random.key(step)),
        ),
        out_shardings=everywhere,
    )
    return jax.block_until_ready(make())


def check_checkpoints(folder):
    """Damage that one process alone meets is damage for both, which restore the same step."""
    checkpoints = Checkpoints(folder)
    for step in (1, 2, 3):
        checkpoints.save(_state(step), {"at": step})
    first = checkpoints.restore(_state(0))
    if jax.process_index() == 1:
        restore = checkpoints._reader.restore

        def broken(step, **options):
            if step == 3:
                raise OSError("this host cannot read it")
            return restore(step, **options)

        checkpoints._reader.restore = broken
    second = checkpoints.restore(_state(0))
    np.testing.assert_array_equal(second[0].params["w"], _state(2).params["w"])
    assert second[0].params["w"].sharding.is_equivalent_to(NamedSharding(data_mesh(), P()), 2)
    left = checkpoints.steps()
    checkpoints.close()
    return {
        "restored": [int(first[0].step), first[1], int(second[0].step), second[1]],
        "left": left,
    }


def check_training(folder):
    """Four steps of the trainer; both processes hear the hook, and the first one writes."""
    mesh, optimizer, heard = data_mesh(), optax.sgd(0.1), []

    def loss(params, state, batch, key):
        value = jnp.mean((params["w"] - batch["views"]) ** 2)
        return value, (state, {"seen": jnp.where(batch["recorded"], value, 0.0)})

    method = Method(
        init=lambda key, batch: ({"w": jnp.zeros(batch["views"].shape[1:])}, {}),
        loss=loss,
        features=lambda params, state, inputs: inputs,
        embed=lambda params, state, inputs: inputs,
    )

    def make_batch(key, raw):
        noise = jax.random.normal(key, raw["images"].shape)
        return {"views": raw["images"] / 255 + noise, "labels": raw["labels"]}

    def run(step, state):
        heard.append(step)
        return {"w": float(jnp.sum(state.params["w"]))}

    data = _iterators(mesh)[1]["resident"]
    raw = {
        "images": jax.ShapeDtypeStruct((BATCH, *Numbered.image_shape), np.uint8),
        "labels": jax.ShapeDtypeStruct((BATCH,), np.int32),
    }
    records = RunRecords(Recorder(folder), Progress(4, method.unit, BATCH, ("seen",)))
    checkpoints = Checkpoints(folder / "trained")
    state = train(
        make_init(method, optimizer, make_batch, raw, mesh)(0),
        make_train_step(method, optimizer, make_batch, lambda step: 0.1, mesh),
        data,
        Schedule(4, log_every=3, save_every=2, save_seconds=0.0),
        checkpoints,
        records if hosts.is_writer() else None,
        [Hook(2, run)],
        mesh=mesh,
    )
    steps = checkpoints.steps()
    checkpoints.close()
    return {"heard": heard, "w": float(jnp.sum(state.params["w"])), "steps": steps}


def check_votes():
    """The second process is told to stop at step 3 of 5."""
    vote, answers = StopVote(data_mesh()), []
    for step in range(1, 6):
        told = signal.SIGTERM if step >= 3 and jax.process_index() == 1 else None
        answers.append(vote(told, False, {})[0])
    return [None if answer is None else answer.name for answer in answers]


def check_saves(*, on_cpu):
    """The second process wants to save from step 2 of 8 on, until it is done: once for all.

    Accelerators read the answer two steps later, and would hear it thrice.
    """
    vote, wanted, saved = StopVote(data_mesh()), jax.process_index() == 1, []
    vote._on_cpu = on_cpu
    for step in range(1, 9):
        if vote(None, wanted and step >= 2, {})[1]:
            saved.append(step)
            vote.saved()
            wanted = False
    return saved


def check_agreement(process):
    """Equal values pass; of those that differ both processes hear, and leave."""
    require_agreement(lambda: {"seed": 0, "loss": "mine"})
    told = from_first(lambda: ["by", process])
    try:
        require_agreement(lambda: {"seed": process, "loss": "mine"})
    except DisagreementError as error:
        return {"told": told, "differing": error.differing, "message": str(error)}
    raise AssertionError("nothing differed")


def reachable(port):
    """The addresses of this host, all its own, at which the coordinator can be reached."""
    found = []
    for host in ("127.0.0.1", "127.0.0.2"):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5):
            found.append(host)
    return found


def main():
    folder, port, process = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    jax.config.update("jax_num_cpu_devices", 4)
    cluster = hosts.Cluster(f"127.0.0.1:{port}", 2, process, 60, 20)
    with hosts.joined(cluster):
        found = {
            "reachable": reachable(port),
            "devices": [jax.local_device_count(), jax.device_count()],
            "writer": hosts.is_writer(),
            "agree": [hosts.all_agree(True), hosts.all_agree(process == 0)],
            "batches": check_batches(),
            "checkpoints": check_checkpoints(folder),
            "training": check_training(folder),
            "votes": check_votes(),
            "saves": [check_saves(on_cpu=True), check_saves(on_cpu=False)],
        }
        kept = hosts.own_copy(_state(4))
        found["agreement"] = check_agreement(process)
    # By itself again, each process computes on its own device.
    found["alone"] = float(jax.jit(jnp.sum)(kept.step + 1))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
