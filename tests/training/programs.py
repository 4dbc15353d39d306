"""What a program does always, what in a loop, and what only under a condition."""

from jax.extend import core


def _primitives(jaxpr, kinds, wanted, within=False):
    """Names of the operations that are, or are not, within one of these kinds."""
    found = set()
    for equation in jaxpr.eqns:
        if within == wanted:
            found.add(equation.primitive.name)
        inner = within or equation.primitive.name in kinds
        for value in equation.params.values():
            for part in value if isinstance(value, list | tuple) else [value]:
                if isinstance(part, core.ClosedJaxpr):
                    part = part.jaxpr
                if isinstance(part, core.Jaxpr):
                    found |= _primitives(part, kinds, wanted, inner)
    return found


def outside_conditions(jaxpr):
    """Names of the operations that every run of the program does."""
    return _primitives(jaxpr, {"cond"}, False)


def inside_conditions(jaxpr):
    """Names of the operations that depend on a condition."""
    return _primitives(jaxpr, {"cond"}, True)


def inside_loops_and_conditions(jaxpr):
    """Names of the operations that are repeated, or depend on a condition."""
    return _primitives(jaxpr, {"cond", "scan", "while"}, True)
