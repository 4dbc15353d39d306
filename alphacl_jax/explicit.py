"""Meshes with explicit sharding, whose axes are part of an array's type.

There JAX wants to be told where the result of each operation lies. The functions of this library
leave that to the compiler, as they do on other meshes: seen from outside they take explicitly
sharded embeddings, and within them the axes are `AxisType.Auto`.

Inside a `jax.shard_map` over some of the axes the others stay explicit, and there each device works
on whole arrays: what a `shard_map` hands out for its backward pass must be of the types of its own
mesh, and nothing is that was computed while axes were automatic.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def left_to_compiler(
    rows: Callable[[Mapping[str, Any]], bool],
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorates a function of arrays such that it also takes explicitly sharded ones.

    Args:
      rows: of the keyword arguments, whether the result has a row for each of the first array's;
        its rows then lie as that array's do. Any other result is the same on all devices.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @functools.wraps(function)
        def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            leaves, structure = jax.tree.flatten((args, kwargs))
            arrays = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]
            shardings = [jax.typeof(leaves[i]).sharding for i in arrays]
            mesh = next((s.mesh for s in shardings if s.mesh.explicit_axes), None)
            if mesh is None:
                return function(*args, **kwargs)

            def with_arrays(*values: jax.Array) -> Result:
                # Numbers stay what they are: as arrays they would be traced.
                whole = list(leaves)
                for i, value in zip(arrays, values, strict=True):
                    whole[i] = value
                own_args, own_kwargs = jax.tree.unflatten(structure, whole)
                return function(*own_args, **own_kwargs)

            own = [leaves[i] for i in arrays]
            spread = P(*shardings[0].spec[:1]) if rows(kwargs) else P()
            result: Result
            if mesh.manual_axes:
                alone = jax.sharding.reshard(own, NamedSharding(mesh, P()))
                result = jax.sharding.reshard(with_arrays(*alone), NamedSharding(mesh, spread))
            else:
                automatic = jax.sharding.auto_axes(
                    with_arrays, axes=mesh.explicit_axes, out_sharding=NamedSharding(mesh, spread)
                )
                result = automatic(*own)
            return result

        return wrapped

    return decorate


def all_gather(arrays: Any, axis_name: Any) -> Any:
    """The rows of all devices, also where other axes of the mesh are explicit.

    There JAX 0.12 cannot lower the transpose of a gather, except where those axes are automatic. A
    gather is linear: nothing of it is kept for the backward pass.
    """

    def gather(arrays: Any) -> Any:
        return jax.lax.all_gather(arrays, axis_name, tiled=True)

    mesh = jax.typeof(jax.tree.leaves(arrays)[0]).sharding.mesh
    if not mesh.explicit_axes:
        return gather(arrays)
    return jax.sharding.auto_axes(
        gather, axes=mesh.explicit_axes, out_sharding=NamedSharding(mesh, P())
    )(arrays)
