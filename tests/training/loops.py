"""What tests of the loop share: batches that need no data, and a run's folder opened for it."""

from contextlib import closing

import jax.numpy as jnp

from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import train
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.progress import Progress
from alphacl_jax.training.records import Recorder, RunRecords, read_records


class Counting:
    """Batches that hold their own number, and may do something before one of them."""

    def __init__(self, at=None, act=None, *, steps_per_epoch=5):
        self.position, self._at, self._act = 0, at, act
        self.damage = {}
        self.steps_per_epoch = steps_per_epoch

    def __iter__(self):
        return self

    def __next__(self):
        self.position += 1
        if self.position == self._at:
            self._act()
        return {"images": jnp.float32(self.position), "labels": jnp.int32(-1)}

    def damage_since(self, step):
        return self.damage.pop(step, "")

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


def train_in(workdir, state, step, batches, schedule, hooks=(), shown="energy"):
    """`train` as a run's own process calls it, with two images per step."""
    records = RunRecords(Recorder(workdir), Progress(schedule.total_steps, "images", 2, (shown,)))
    with closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        return train(state, step, batches, schedule, checkpoints, records, hooks, mesh=data_mesh())


def saved_steps(workdir):
    with closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        return checkpoints.steps()


def records_of(workdir):
    """The records, without the speed, which differs from run to run."""
    found = read_records(workdir / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in found]
