"""Parameters of families and rules: how JAX sees them.

A family or a rule is a pytree. Its leaves are the parameters of the call that made it, so that it
can be an argument of jit, be mapped over a stack of temperatures, and hold a temperature that is
learned; its functions are part of the structure.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import GetAttrKey

from alphacl_jax.errors import shown
from alphacl_jax.ranges import Range, check_scalar, in_its_range, unwrapped

T = TypeVar("T")


def typed(parameter: Any, x: Array) -> Any:
    """A parameter in the type of x, which a wider one would widen; what has no type as it is."""
    dtype = jnp.result_type(x)
    if hasattr(parameter, "dtype") and jnp.issubdtype(dtype, jnp.floating):
        return jnp.asarray(parameter).astype(dtype)
    return parameter


def check_shape(what: str, found: Any, shape: tuple[Any, ...]) -> None:
    """Raises AssertionError unless what a function of somebody's own returned has that shape."""
    if getattr(found, "shape", None) != shape:
        raise AssertionError(f"{what} returned {shown(found)}, not an array of shape {shape}")


def elementwise(role: str, function: Callable[..., Array], x: Array) -> Array:
    """`function(x)`, one number for each, such as φ(ξ).

    Raises:
      AssertionError: where the function is not one of each element.
    """
    found = function(x)
    check_shape(f"{role}={named(function)}, which must work elementwise,", found, x.shape)
    return found


@jax.tree_util.register_static
@dataclass(frozen=True)
class Fixed:
    """What is no leaf of a family or a rule: a function, or a number that shapes the program."""

    value: Any

    def __repr__(self) -> str:
        return repr(self.value)


def _fixed_if_function(value: Any) -> Any:
    # A function that is a pytree itself (a Partial, an Equinox module) brings its own leaves.
    return Fixed(value) if callable(value) and jax.tree_util.all_leaves([value]) else value


def _as_array(value: Any) -> Any:
    value = unwrapped(value)
    # Whole numbers, of NumPy as well, have no derivative.
    if hasattr(value, "astype") and jnp.issubdtype(value.dtype, jnp.integer):
        return value.astype(float)
    return value


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Fixed) else value


def _leaf(value: Any) -> Any:
    # Whole numbers have no derivative.
    return float(value) if type(value) is int else value


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Bound:
    """A function with its last arguments filled in; equal by value, unlike a closure."""

    function: Callable[..., Array]
    parameters: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(map(_as_array, self.parameters)))

    def __call__(self, *arguments: Array) -> Array:
        return self.function(*arguments, *(typed(p, arguments[0]) for p in self.parameters))

    def tree_flatten(self) -> tuple[list[Any], None]:
        return [_leaf(_fixed_if_function(v)) for v in (self.function, *self.parameters)], None

    @classmethod
    def tree_unflatten(cls, _: None, children: Any) -> "Bound":
        function, *parameters = map(_plain, children)
        new = object.__new__(cls)  # JAX also fills in what is no number
        object.__setattr__(new, "function", function)
        object.__setattr__(new, "parameters", tuple(parameters))
        return new


@dataclass(frozen=True)
class Made:
    """The call that made a family or a rule: what its `repr` shows, and where its leaves are."""

    build: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...]
    ranges: tuple[tuple[str, Range], ...]

    def __repr__(self) -> str:
        module = self.build.__module__.rpartition(".")[2]
        shown = ", ".join(_shown(name, value) for name, value in self.arguments)
        return f"{module}.{self.build.__name__.lstrip('_')}({shown})"


def _shown(name: str, value: Any) -> str:
    # A function or a family says itself what it is.
    alone = callable(_plain(value)) or hasattr(value, "made_by")
    return named(value) if alone else f"{name}={value!r}"


def named(value: Any) -> str:
    """A function by its name, anything else as it is written."""
    return getattr(_plain(value), "__qualname__", None) or repr(value)


def made(
    build: Callable[..., T], ranges: Mapping[str, Range] | None = None, /, **arguments: Any
) -> T:
    """`build(**arguments)`, a family or a rule whose leaves are those arguments.

    One's own loss with a parameter that is learned, where `Family(phi=..., psi=...)` alone would
    hide it in functions:

        def my_loss(temperature):
            return Family(phi=jnp.log1p, psi=Bound(my_psi, (temperature,)))

        family = made(my_loss, temperature=0.5)

    Args:
      build: makes the family or the rule, and does nothing with the arguments but hand them on:
        JAX also calls it with what is no number. It must be the same function each time.
      ranges: of arguments that are numbers, which ones they may be, also once they are learned.
      **arguments: numbers, families, functions; functions and what is `Fixed` are no leaves.

    Raises:
      ValueError: for an argument out of its range, where it is not traced.
    """
    arguments = {name: _as_array(value) for name, value in arguments.items()}
    for name, allowed in (ranges or {}).items():
        check_scalar(name, _plain(arguments[name]), allowed)
    return _built(build, tuple((ranges or {}).items()), arguments)


def _built(build: Callable[..., T], ranges: tuple[tuple[str, Range], ...], arguments: Any) -> T:
    given = {name: _fixed_if_function(value) for name, value in arguments.items()}
    built: Any = dataclasses.replace(build(**{k: _plain(v) for k, v in given.items()}))  # type: ignore[type-var]
    object.__setattr__(built, "made_by", Made(build, tuple(given.items()), ranges))
    return built


def in_range(objective: T) -> T:
    """The same family or rule, for use: each parameter of which a range is known lies in it.

    One that is known was checked when it was given, but an optimiser may have moved it since. A
    traced one that has left its range becomes NaN, and so does the loss: with a temperature below
    0 it would be finite, and of the wrong sign.

    Raises:
      ValueError: for a value out of range, where it is not traced.
    """
    call: Made | None = objective.made_by  # type: ignore[attr-defined]
    if call is None:
        within = {name: _with_parts_in_range(value) for name, value in _given(objective)}
        return dataclasses.replace(objective, **within)  # type: ignore[type-var]
    ranges, values = dict(call.ranges), dict(call.arguments)
    for name, value in values.items():
        if name in ranges and not isinstance(value, Fixed):
            values[name] = in_its_range(name, value, ranges[name])
        else:
            values[name] = _with_parts_in_range(value)
    return _built(call.build, call.ranges, values)


def _with_parts_in_range(value: Any) -> Any:
    """A field or an argument, with the families and rules in it for use."""
    is_part = lambda part: hasattr(part, "made_by")  # noqa: E731
    return jax.tree.map(
        lambda part: in_range(part) if is_part(part) else part, value, is_leaf=is_part
    )


def register(cls: type[T]) -> type[T]:
    """Makes a dataclass with a field `made_by` a pytree: its leaves are as `made` says.

    Of one that was given its fields by hand, functions that are pytrees bring their leaves.
    """

    def flatten(made: Any) -> tuple[list[tuple[GetAttrKey, Any]], Any]:
        if made.made_by is not None:
            call, items = (made.made_by.build, made.made_by.ranges), made.made_by.arguments
        else:
            call, items = None, [(name, _fixed_field(v)) for name, v in _given(made)]
        children = [(GetAttrKey(name), _leaf(value)) for name, value in items]
        return children, (call, tuple(name for name, _ in items))

    def unflatten(structure: Any, children: Any) -> Any:
        call, names = structure
        values = dict(zip(names, children, strict=True))
        if call is not None:
            build, ranges = call
            return _built(build, ranges, values)
        # Without the checks of a call: JAX also fills in what is no function.
        new = object.__new__(cls)
        for name, value in {**values, "made_by": None}.items():
            object.__setattr__(new, name, _plain(value))
        return new

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls


def _given(made: Any) -> list[tuple[str, Any]]:
    """The fields that a constructor was given, by name."""
    return [(f.name, getattr(made, f.name)) for f in dataclasses.fields(made) if f.init]


def _fixed_field(value: Any) -> Any:
    return Fixed(value) if isinstance(value, int | float) else _fixed_if_function(value)


def describe(made: Any) -> str:
    """The call that makes a family or a rule again."""
    if made.made_by is not None:
        return repr(made.made_by)
    defaults = {f.name: f.default for f in dataclasses.fields(made)}
    given = [f"{n}={named(value)}" for n, value in _given(made) if value is not defaults[n]]
    return f"{type(made).__name__}({', '.join(given)})"
