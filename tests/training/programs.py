"""What a program does always, and what only under a condition."""

from jax.extend import core


def _primitives(jaxpr, conditional, within):
    found = set()
    for equation in jaxpr.eqns:
        if within == conditional:
            found.add(equation.primitive.name)
        inner = within or equation.primitive.name == "cond"
        for value in equation.params.values():
            for part in value if isinstance(value, list | tuple) else [value]:
                if isinstance(part, core.ClosedJaxpr):
                    part = part.jaxpr
                if isinstance(part, core.Jaxpr):
                    found |= _primitives(part, conditional, inner)
    return found


def outside_conditions(jaxpr):
    """Names of the operations that every run of the program does."""
    return _primitives(jaxpr, False, False)


def inside_conditions(jaxpr):
    """Names of the operations that depend on a condition."""
    return _primitives(jaxpr, True, False)
