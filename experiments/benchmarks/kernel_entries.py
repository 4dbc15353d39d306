"""What the kernel benchmark sets side by side: the products, our losses, the peers' losses.

Each competitor is a function that prepares a problem of some size and returns a call that computes
value and gradient once. A tiny problem starts the runtime first, so that a measurement of memory
does not count what libraries set up on first use.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphacl_jax.errors import RunError
from alphacl_jax.runs.objectives import make_objective
from alphacl_jax.runs.settings import ContrastiveSettings
from experiments.benchmarks import benchmarking, memory
from experiments.benchmarks.memory import Call

PRODUCTS = "three products"
# The peers: the package that each needs, and which of our losses computes the same number.
PEERS = {
    "lightly": ("lightly", "info_nce"),
    "metric_learning": ("pytorch-metric-learning", "info_nce"),
    "torch_nt_xent": ("torch", "info_nce"),
    "torch_alpha_direct": ("torch", "alpha_direct"),
}
# Memory of one call in units of 4·size² bytes, measured at size 4096; it says what to skip.
_SQUARES = {
    PRODUCTS: 1.1,
    "dense": 3.4,
    "lightly": 4.7,
    "torch_nt_xent": 3.1,
    "torch_alpha_direct": 1.3,
}
_CUBES = {"metric_learning": 4.3}  # of 4·size³: each positive pair beside each negative


@dataclass(frozen=True)
class Entry:
    """A competitor.

    Attributes:
      name: in the table.
      side: "reference", "ours" or "peer".
      objective: the loss of ours that it computes; "" for the products.
      form: "dense", a block size, or the peer's name.
      make: prepares `(size, dim)`.
    """

    name: str
    side: str
    objective: str
    form: str
    make: Callable[[int, int], Call]

    def needs_bytes(self, size: int) -> float:
        """About what a call takes, for forms that hold the whole matrix; else 0."""
        kind = PRODUCTS if self.side == "reference" else self.form
        return 4.0 * (_SQUARES.get(kind, 0) * size**2 + _CUBES.get(kind, 0) * size**3)


def entries(
    objectives: Sequence[str],
    block_sizes: Sequence[str],
    peers: Sequence[str],
    torch_device: str = "cpu",
) -> Iterator[Entry]:
    """The competitors that the flags ask for; the peers on a device of PyTorch's.

    Raises:
      RunError: for an unknown peer, or a block size that is none.
    """
    for peer in peers:
        if peer not in PEERS:
            raise RunError(f"--peers={peer} is unknown; use some of {', '.join(PEERS)}, or none")
    yield Entry(PRODUCTS, "reference", "", "dense", make_products)
    for objective in objectives:
        yield Entry(
            f"ours, {objective}, dense",
            "ours",
            objective,
            "dense",
            functools.partial(make_ours, objective, None),
        )
        for text in block_sizes:
            if text != "auto" and not (text.isdecimal() and int(text) >= 1):
                raise RunError(f"--block_sizes={text}: use whole numbers >= 1, or auto")
            yield Entry(
                f"ours, {objective}, block {text}",
                "ours",
                objective,
                text,
                functools.partial(make_ours, objective, text if text == "auto" else int(text)),
            )
    for peer in peers:
        make = functools.partial(make_peer, peer, device=torch_device)
        yield Entry(peer, "peer", PEERS[peer][1], peer, make)


def example_views(size: int, dim: int) -> np.ndarray:
    """Two views `[2, size / 2, dim]` on the unit sphere, the second near the first, float32."""
    rng = np.random.default_rng(size)
    first = rng.normal(size=(size // 2, dim))
    views = np.stack([first, first + 0.5 * rng.normal(size=first.shape)])
    return (views / np.linalg.norm(views, axis=-1, keepdims=True)).astype(np.float32)


def our_loss(name: str) -> Callable[..., Any]:
    """`(z, z_pos, block_size=) -> loss` for a name of `--loss`, with its default parameters."""
    import alphacl_jax as acl

    objective = make_objective(ContrastiveSettings(loss=name))
    if isinstance(objective, acl.Rule):
        return functools.partial(acl.alpha_cl_loss, rule=objective)
    return functools.partial(acl.contrastive_loss, family=objective)


def make_products(size: int, dim: int) -> Call:
    """X Xᵀ, and two products of a matrix of its size with X, each a program of its own.

    Compiled together, XLA may reassociate the products and skip the Gram matrix. They are as exact
    as those of our losses.
    """
    import jax

    multiply = functools.partial(jax.numpy.matmul, precision=jax.lax.Precision.HIGHEST)
    gram, product = jax.jit(lambda x: multiply(x, x.T)), jax.jit(multiply)

    def prepared(size: int) -> Call:
        x = jax.numpy.asarray(example_views(size, dim).reshape(size, dim))
        compiled = gram.lower(x).compile()
        square = jax.ShapeDtypeStruct((size, size), x.dtype)
        times_x = product.lower(square, x).compile()

        def call() -> None:
            g = compiled(x)
            jax.block_until_ready((times_x(g, x), times_x(g, x)))

        return memory.of_jax(call)

    prepared(8)()
    return prepared(size)


def make_ours(objective: str, block_size: int | str | None, size: int, dim: int) -> Call:
    """Value and gradient of one of our losses, compiled; a tiny problem has started the runtime."""
    import jax

    loss = functools.partial(our_loss(objective), block_size=block_size)
    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def prepared(size: int) -> Call:
        z, z_pos = jax.numpy.asarray(example_views(size, dim))
        compiled = gradient.lower(z, z_pos).compile()
        return memory.of_jax(lambda: jax.block_until_ready(compiled(z, z_pos)))

    prepared(8)()
    return prepared(size)


def torch_loss(peer: str) -> Callable[[Any, Any], Any]:
    """A peer's loss with the parameters that ours has by default."""
    from experiments.benchmarks import torch_losses

    defaults = ContrastiveSettings()
    temperature = defaults.temperature
    return {
        "lightly": lambda: torch_losses.lightly_nt_xent(temperature),
        "metric_learning": lambda: torch_losses.metric_learning_nt_xent(temperature),
        "torch_nt_xent": lambda: torch_losses.cross_entropy_nt_xent(temperature),
        "torch_alpha_direct": lambda: torch_losses.alpha_direct(temperature, defaults.power),
    }[peer]()


def make_peer(peer: str, size: int, dim: int, device: str = "cpu") -> Call:
    """Value and gradient of a peer's loss, on all cores or on the device "cuda".

    Raises:
      RunError: where PyTorch cannot use the device.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RunError(f"PyTorch {torch.__version__} sees no CUDA device; install its CUDA build")
    torch.set_num_threads(benchmarking.usable_cores())
    loss = torch_loss(peer)

    def prepared(size: int) -> Call:
        views = torch.from_numpy(example_views(size, dim)).to(device)
        z, z_pos = (view.clone().requires_grad_() for view in views)

        def call() -> Any:
            value = loss(z, z_pos)
            return value.detach(), torch.autograd.grad(value, (z, z_pos))

        return memory.of_torch(call, device)

    prepared(8)()
    return prepared(size)


def peer_scale(objective: str) -> float:
    """What a peer's value is in units of ours: NT-Xent is InfoNCE with ε = 1, divided by τ."""
    return 1 / ContrastiveSettings().temperature if objective == "info_nce" else 1.0


def check_peer(peer: str, size: int = 64, dim: int = 16) -> None:
    """Compares a peer's value and gradient with ours.

    Raises:
      RunError: where they differ by more than float32's rounding.
    """
    import jax

    import alphacl_jax as acl

    name = PEERS[peer][1]
    loss = our_loss(name)
    scale = peer_scale(name)

    def ours(z: Any, z_pos: Any) -> Any:
        # Libraries normalise inside: their gradient is the one along the sphere.
        return scale * loss(acl.l2_normalize(z), acl.l2_normalize(z_pos))

    views = example_views(size, dim)
    wanted, wanted_gradient = jax.value_and_grad(ours, argnums=(0, 1))(*views)
    got, got_gradient = make_peer(peer, size, dim)()
    for z, theirs, expected in zip(views, got_gradient, wanted_gradient, strict=True):
        along = theirs.numpy() - np.sum(theirs.numpy() * z, axis=1, keepdims=True) * z
        if not np.allclose(along, expected, rtol=1e-4, atol=1e-6):
            worst = np.max(np.abs(along - expected))
            raise RunError(f"{peer} and {name} differ in their gradients, by up to {worst:.2g}")
    if not np.isclose(float(got), float(wanted), rtol=1e-5):
        raise RunError(f"{peer} gives {float(got)}, {name} {float(wanted)}: not the same loss")
